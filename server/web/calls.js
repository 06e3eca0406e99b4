// All calls of this page: executes the commands of negotiation.js, one Negotiation per remote, one timer for all.
//
// onChange(remote): its state() may have changed. onEnded(remote, reason, detail). onMissed(remote): the caller gave
// up, or the call rang for too long. onSample(remote, sample): once per second.
//
// An offer that rings is held back from the state machine until it is decided. Then the state machine answers or
// declines it, so that every offer gets exactly one reply (docs/protocol.md, rule 4).

import { Connection } from "./connection.js";
import { Negotiation, Phase } from "./negotiation.js";

// Maximum time from dialing to connected, in seconds. Longer than the 15 s of programs: a person may have to answer.
const DIAL_TIMEOUT = 30;

// Maximum time that a call rings, in seconds. Pages of the legacy client never give up, and no offer may wait forever.
const RING_TIMEOUT = 60;

const SAMPLE_INTERVAL = 1000; // ms

// Maximum length of the detail of a hang-up, in characters. It is shown to the user, in one sentence.
const MAX_DETAIL = 256;

// Memory budgets for queued offers and candidates, in bytes: for one remote, two offers of the maximum message size;
// and for all remotes together. Neither needs a call.
const MAX_WAITING_PER_REMOTE = 512 << 10;
const MAX_WAITING = 4 << 20;

// Maximum size of a candidate, and of its ufrag and mid, in bytes (docs/protocol.md).
const MAX_CANDIDATE = 1024;
const MAX_FRAGMENT = 256;

const MAX_ROUND = 2 ** 31 - 1;

// What is shown of a remote's source that has failed: the kind, and the cause (docs/interface.md, Causes).
const SOURCES = { video: "Camera", audio: "Microphone" };
const CAUSES = {
  missing: "missing",
  busy: "used by another program",
  forbidden: "not permitted",
  gone: "unplugged",
  silent: "delivers nothing",
  ended: "has ended",
  unreachable: "unreachable",
  unauthorized: "rejects its password",
  failed: "failed",
};

const now = () => performance.now() / 1000;

export class Calls {
  #me;
  #media;
  #send;
  #answersAutomatically;
  // remote -> { remote, negotiation, connections: Map(generation), current, incoming, gone, ringing, lost }
  // `lost`: the cause by kind of the remote's sources that have failed
  // `ringing`: the offer that waits for the user, { sdp, call, round, deadline }, or null
  #calls = new Map();
  #timer = null;
  #sampler = null;

  // `answersAutomatically()`: whether an incoming call is answered at once, or rings.
  constructor({ me, media, send, answersAutomatically, onChange, onEnded, onMissed, onSample }) {
    this.#me = me;
    this.#media = media;
    this.#send = send;
    this.#answersAutomatically = answersAutomatically;
    this.onChange = onChange;
    this.onEnded = onEnded;
    this.onMissed = onMissed;
    this.onSample = onSample;
    this.iceServers = [];
  }

  // "available" · "calling" · "ringing" · "incoming" (being answered) · "connected" · "silent" (connected, but nothing
  // arrives)
  state(remote) {
    const call = this.#calls.get(remote);
    if (call?.ringing) return "ringing";
    if (!call || call.negotiation.phase === Phase.IDLE) return "available";
    if (call.negotiation.phase === Phase.CONNECTED) return call.current.silent ? "silent" : "connected";
    return call.incoming ? "incoming" : "calling";
  }

  // The remote's media, once connected; else null.
  stream(remote) {
    return this.#calls.get(remote)?.current?.stream ?? null;
  }

  active() {
    return [...this.#calls.keys()].filter((remote) => this.state(remote) !== "available");
  }

  dial(remote) {
    if (remote !== this.#me()) this.#handle(remote, { type: "Dial", timeout: DIAL_TIMEOUT, call: newCallId() });
  }

  answer(remote) {
    this.#decide(remote, true);
  }

  decline(remote) {
    this.#decide(remote, false);
  }

  hangUp(remote, reason = "hang-up") {
    this.decline(remote);
    if (this.#calls.has(remote)) this.#handle(remote, { type: "HangUp", reason });
  }

  hangUpAll(reason) {
    for (const remote of this.active()) this.hangUp(remote, reason);
  }

  // End all calls and discard all negotiations, because our id changes: glare is resolved by comparing ids.
  discardAll() {
    this.hangUpAll("shutdown");
    for (const remote of [...this.#calls.keys()]) this.peerGone(remote);
  }

  // An offer, answer, candidate, hang-up or source from another peer.
  receive({ type, from, sdp, candidate, reason, detail, ...keys }) {
    const isDescription = type === "offer" || type === "answer";
    if (isDescription && typeof sdp !== "string") return;
    const call = readCall(keys.call);
    const round = readRound(keys.round);
    switch (type) {
      case "offer":
        return this.#offerReceived(from, { sdp, call, round });
      case "answer":
        return this.#handle(from, { type: "AnswerReceived", sdp, call, round });
      case "candidate":
        return this.#handle(from, { type: "CandidateReceived", candidate: readCandidate(candidate) });
      case "source":
        return this.#sourceChanged(from, keys);
      case "hang-up":
        if (reason !== "declined" && this.#callerGaveUp(from, reason, call)) return undefined;
        return this.#handle(from, {
          type: "HangUpReceived",
          reason: typeof reason === "string" ? reason : null,
          detail: typeof detail === "string" ? detail.slice(0, MAX_DETAIL) : undefined,
          call,
          round,
        });
    }
  }

  // The remote's camera or microphone has failed, or works again: it sends a card or silence meanwhile.
  #sourceChanged(remote, { kind, state, cause }) {
    if (this.state(remote) === "available" || !Object.hasOwn(SOURCES, kind)) return;
    if (!["lost", "back"].includes(state)) return;
    const call = this.#calls.get(remote);
    if (state === "lost") call.lost.set(kind, Object.hasOwn(CAUSES, cause) ? cause : "failed");
    else call.lost.delete(kind);
    this.onChange(remote);
  }

  // Which sources of the remote have failed, and why, as a text; "" if none has.
  trouble(remote) {
    const lost = this.#calls.get(remote)?.lost ?? new Map();
    return [...lost].map(([kind, cause]) => `${SOURCES[kind]} ${CAUSES[cause]}`).join(", ");
  }

  peerGone(remote) {
    if (!this.#calls.has(remote)) return;
    this.#calls.get(remote).gone = true;
    if (this.#stopRinging(remote)) this.onMissed(remote);
    this.#handle(remote, { type: "PeerGone" });
  }

  peerBack(remote) {
    if (!this.#calls.has(remote)) return;
    this.#calls.get(remote).gone = false;
    this.#handle(remote, { type: "PeerBack" });
  }

  // Another process has taken the seat of the remote. Called between peerGone and peerBack.
  peerRestarted(remote) {
    if (this.#calls.has(remote)) this.#handle(remote, { type: "PeerRestarted" });
  }

  // A new `peer-list` has arrived; `present.has(remote)`: whether the remote is in the room.
  setPresent(present) {
    for (const [remote, { gone }] of [...this.#calls]) {
      if (present.has(remote)) this.peerBack(remote);
      else if (!gone) this.peerGone(remote);
    }
  }

  // Local tracks were added or removed.
  updateTracks() {
    for (const { connections } of this.#calls.values()) {
      for (const connection of connections.values()) connection.updateTracks();
    }
  }

  // Ring, or pass the offer on at once: if calls are answered automatically, or if it starts no call. Then it belongs
  // to a call that exists or that we are dialing, or it loses the glare and is ignored.
  #offerReceived(remote, offer) {
    const call = this.#call(remote);
    const starts = call.negotiation.phase === Phase.IDLE && call.negotiation.startsCall(offer);
    if (this.#answersAutomatically() || !starts) {
      if (starts) call.ringing = null;
      this.#handle(remote, { type: "OfferReceived", ...offer });
    } else {
      // A newer offer replaces the old one: the caller restarted.
      call.ringing = { ...offer, deadline: now() + RING_TIMEOUT };
      this.#setTimer();
      this.onChange(remote);
    }
  }

  // Answer or decline the call that rings, if there is one. Candidates that have arrived are queued in `negotiation`.
  #decide(remote, allowed) {
    const ringing = this.#stopRinging(remote);
    if (ringing) this.#handle(remote, { type: "OfferReceived", ...ringing, allowed });
  }

  // The caller of a call that rings hung up. Returns whether there was one. After "no-answer" the caller no longer
  // waits for a reply; after any other reason it does, and sends no new offer before it.
  #callerGaveUp(remote, reason, call) {
    const ringing = this.#calls.get(remote)?.ringing;
    if (!ringing || (call !== null && call !== ringing.call)) return false; // rule 0 h: it names another call
    this.onMissed(remote);
    if (reason !== "no-answer") this.#decide(remote, false);
    this.#stopRinging(remote);
    this.onChange(remote);
    return true;
  }

  #stopRinging(remote) {
    const call = this.#calls.get(remote);
    const ringing = call?.ringing ?? null;
    if (ringing) call.ringing = null;
    return ringing;
  }

  #call(remote) {
    let call = this.#calls.get(remote);
    if (!call) {
      const negotiation = new Negotiation(this.#me(), remote);
      const state = { current: null, incoming: false, gone: false, ringing: null, lost: new Map() };
      call = { remote, negotiation, connections: new Map(), ...state };
      this.#calls.set(remote, call);
    }
    return call;
  }

  #handle(remote, event) {
    const call = this.#call(remote);
    const offered = event.type === "OfferReceived" ? event.sdp.length : 0;
    if (offered && call.negotiation.waitingBytes + offered > MAX_WAITING_PER_REMOTE) return;
    for (const command of call.negotiation.handle(event, now())) this.#run(call, command);
    this.#limitWaiting();
    if (call.gone && call.negotiation.settled) this.#calls.delete(remote);
    this.#setTimer();
    this.onChange(remote);
  }

  // Drop what is queued for the remote that has the most, if that is too much in total.
  #limitWaiting() {
    const negotiations = [...this.#calls.values()].map(({ negotiation }) => negotiation);
    if (negotiations.reduce((sum, { waitingBytes }) => sum + waitingBytes, 0) <= MAX_WAITING) return;
    negotiations.reduce((most, one) => (one.waitingBytes > most.waitingBytes ? one : most)).dropWaiting();
  }

  #run(call, { type, generation, sdp, candidate, reason, detail, incoming, ...keys }) {
    console.debug(call.remote, type, generation ?? reason ?? "");
    const address = { from: this.#me(), to: call.remote };
    const connection = call.connections.get(generation);
    const named = { call: keys.call, round: keys.round }; // JSON leaves out those that are undefined
    switch (type) {
      case "CreateOffer":
        return this.#open(call, generation).createOffer();
      case "CreateAnswer":
        return this.#open(call, generation).createAnswer(sdp);
      case "Renegotiate":
        return connection.createAnswer(sdp);
      case "ApplyAnswer":
        return connection.applyAnswer(sdp);
      case "AddCandidate":
        return connection.addCandidate(candidate);
      case "Close":
        call.connections.delete(generation);
        return connection.close();
      case "SendOffer":
        return this.#send({ type: "offer", ...address, sdp, ...named });
      case "SendAnswer":
        return this.#send({ type: "answer", ...address, sdp, ...named });
      case "SendCandidate":
        return this.#send({ type: "candidate", ...address, candidate });
      case "SendHangUp":
        return this.#send({ type: "hang-up", ...address, reason, detail: detail?.slice(0, MAX_DETAIL), ...named });
      case "CallStarted":
        call.incoming = incoming;
        return undefined;
      case "CallConnected":
        call.current = connection;
        this.#sampler ??= setInterval(() => this.#sample(), SAMPLE_INTERVAL);
        return undefined;
      case "CallEnded":
        call.current = null;
        call.lost.clear();
        return this.onEnded(call.remote, reason, detail);
      default:
        throw new Error(`no such command: ${type}`);
    }
  }

  #open(call, generation) {
    const emit = (event) => this.#handle(call.remote, { ...event, generation });
    const connection = new Connection(this.iceServers, this.#media, emit);
    call.connections.set(generation, connection);
    return connection;
  }

  async #sample() {
    const connected = [...this.#calls.values()].filter((call) => call.current !== null);
    if (connected.length === 0) {
      clearInterval(this.#sampler);
      this.#sampler = null;
    }
    const sample = async (call, connection) => {
      const values = await connection.sample();
      if (call.current === connection) this.onSample(call.remote, values);
    };
    await Promise.all(connected.map((call) => sample(call, call.current)));
  }

  #setTimer() {
    clearTimeout(this.#timer);
    const deadlines = [...this.#calls.values()].flatMap(({ negotiation, ringing }) => [
      negotiation.deadline ?? Infinity,
      ringing?.deadline ?? Infinity,
    ]);
    const deadline = Math.min(...deadlines);
    if (deadline === Infinity) return;
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, (deadline - now()) * 1000));
  }

  #tick() {
    const time = now();
    for (const [remote, { negotiation, ringing }] of [...this.#calls]) {
      if (ringing && ringing.deadline <= time) {
        this.onMissed(remote);
        this.decline(remote);
      }
      if (negotiation.deadline !== null && negotiation.deadline <= time) this.#handle(remote, { type: "Tick" });
    }
    this.#setTimer();
  }
}

// A random id for a call that we dial. Not crypto.randomUUID: browsers offer that on https only.
function newCallId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// A valid `call` or `round`; null for anything else, which counts as absent.
function readCall(value) {
  return typeof value === "string" && /^[A-Za-z0-9_-]{1,64}$/.test(value) ? value : null;
}

function readRound(value) {
  return Number.isInteger(value) && value >= 1 && value <= MAX_ROUND ? value : null;
}

// An RTCIceCandidateInit; or null for the end of candidates and for anything else.
function readCandidate(candidate) {
  if (typeof candidate?.candidate !== "string" || !candidate.candidate) return null;
  const { candidate: line, sdpMid = null, usernameFragment = null } = candidate;
  const isShort = (text) => text === null || (typeof text === "string" && sizeOf(text) <= MAX_FRAGMENT);
  return sizeOf(line) <= MAX_CANDIDATE && isShort(sdpMid) && isShort(usernameFragment) ? candidate : null;
}

function sizeOf(text) {
  return new TextEncoder().encode(text).length;
}
