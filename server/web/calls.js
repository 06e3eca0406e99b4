// The shell around the law: one Negotiation and its connections for each remote, one timer for all of them.
//
// onChange(remote): its state() changed. onEnded(remote, reason, detail). onSample(remote, sample): once a second.

import { Connection } from "./connection.js";
import { Negotiation, Phase } from "./negotiation.js";

const DIAL_TIMEOUT = 15; // seconds until connected
const SAMPLE_EVERY = 1000; // ms
const MAX_DETAIL = 256; // characters of the sentence for people in a hang-up

const now = () => performance.now() / 1000;

export class Calls {
  #me;
  #media;
  #send;
  #calls = new Map(); // remote -> { remote, negotiation, connections: Map(generation), current, incoming, gone }
  #timer = null;
  #sampler = null;

  constructor({ me, media, send, onChange, onEnded, onSample }) {
    this.#me = me;
    this.#media = media;
    this.#send = send;
    this.onChange = onChange;
    this.onEnded = onEnded;
    this.onSample = onSample;
    this.iceServers = [];
  }

  // "available" · "calling" · "incoming" · "connected" · "silent": connected, but nothing comes
  state(remote) {
    const call = this.#calls.get(remote);
    if (!call || call.negotiation.phase === Phase.IDLE) return "available";
    if (call.negotiation.phase === Phase.CONNECTED) return call.current.silent ? "silent" : "connected";
    return call.incoming ? "incoming" : "calling";
  }

  // What the remote sends, once connected.
  stream(remote) {
    return this.#calls.get(remote)?.current?.stream ?? null;
  }

  active() {
    return [...this.#calls.keys()].filter((remote) => this.state(remote) !== "available");
  }

  dial(remote) {
    if (remote !== this.#me()) this.#handle(remote, { type: "Dial", timeout: DIAL_TIMEOUT });
  }

  hangUp(remote, reason = "hang-up") {
    if (this.#calls.has(remote)) this.#handle(remote, { type: "HangUp", reason });
  }

  hangUpAll(reason) {
    for (const remote of this.active()) this.hangUp(remote, reason);
  }

  // We are to be somebody else: no call goes on, and nobody is kept who knew the old id. Glare is decided by ids.
  forgetAll() {
    this.hangUpAll("shutdown");
    for (const remote of [...this.#calls.keys()]) this.peerGone(remote);
  }

  // An offer, answer, candidate or hang-up from another peer.
  receive({ type, from, sdp, candidate, reason, detail }) {
    const isDescription = type === "offer" || type === "answer";
    if (isDescription && typeof sdp !== "string") return;
    switch (type) {
      case "offer":
        return this.#handle(from, { type: "OfferReceived", sdp });
      case "answer":
        return this.#handle(from, { type: "AnswerReceived", sdp });
      case "candidate":
        return this.#handle(from, { type: "CandidateReceived", candidate: readCandidate(candidate) });
      case "hang-up":
        return this.#handle(from, {
          type: "HangUpReceived",
          reason: typeof reason === "string" ? reason : null,
          detail: typeof detail === "string" ? detail.slice(0, MAX_DETAIL) : undefined,
        });
    }
  }

  peerGone(remote) {
    if (!this.#calls.has(remote)) return;
    this.#calls.get(remote).gone = true;
    this.#handle(remote, { type: "PeerGone" });
  }

  peerBack(remote) {
    if (!this.#calls.has(remote)) return;
    this.#calls.get(remote).gone = false;
    this.#handle(remote, { type: "PeerBack" });
  }

  // Everybody who is in the room: what a new `peer-list` says.
  peersAre(present) {
    for (const remote of [...this.#calls.keys()]) {
      if (present.has(remote)) this.peerBack(remote);
      else this.peerGone(remote);
    }
  }

  retrack() {
    for (const { connections } of this.#calls.values()) {
      for (const connection of connections.values()) connection.retrack();
    }
  }

  #handle(remote, event) {
    let call = this.#calls.get(remote);
    if (!call) {
      const negotiation = new Negotiation(this.#me(), remote);
      call = { remote, negotiation, connections: new Map(), current: null, incoming: false, gone: false };
      this.#calls.set(remote, call);
    }
    for (const command of call.negotiation.handle(event, now())) this.#run(call, command);
    if (call.gone && call.negotiation.settled) this.#calls.delete(remote);
    this.#arm();
    this.onChange(remote);
  }

  #run(call, { type, generation, sdp, candidate, reason, detail, incoming }) {
    console.debug(call.remote, type, generation ?? reason ?? "");
    const address = { from: this.#me(), to: call.remote };
    const connection = call.connections.get(generation);
    switch (type) {
      case "CreateOffer":
        return this.#open(call, generation).createOffer();
      case "CreateAnswer":
        return this.#open(call, generation).createAnswer(sdp);
      case "ApplyAnswer":
        return connection.applyAnswer(sdp);
      case "AddCandidate":
        return connection.addCandidate(candidate);
      case "Close":
        call.connections.delete(generation);
        return connection.close();
      case "SendOffer":
        return this.#send({ type: "offer", ...address, sdp });
      case "SendAnswer":
        return this.#send({ type: "answer", ...address, sdp });
      case "SendCandidate":
        return this.#send({ type: "candidate", ...address, candidate });
      case "SendHangUp":
        return this.#send({ type: "hang-up", ...address, reason, detail: detail?.slice(0, MAX_DETAIL) });
      case "CallStarted":
        call.incoming = incoming;
        return undefined;
      case "CallConnected":
        call.current = connection;
        this.#sampler ??= setInterval(() => this.#sample(), SAMPLE_EVERY);
        return undefined;
      case "CallEnded":
        call.current = null;
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
    const ask = async (call, connection) => {
      const sample = await connection.sample();
      if (call.current === connection) this.onSample(call.remote, sample);
    };
    await Promise.all(connected.map((call) => ask(call, call.current)));
  }

  #arm() {
    clearTimeout(this.#timer);
    const due = [...this.#calls.values()].map((call) => call.negotiation.deadline).filter((time) => time !== null);
    if (due.length === 0) return;
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, (Math.min(...due) - now()) * 1000));
  }

  #tick() {
    const time = now();
    for (const [remote, { negotiation }] of [...this.#calls]) {
      if (negotiation.deadline !== null && negotiation.deadline <= time) this.#handle(remote, { type: "Tick" });
    }
    this.#arm();
  }
}

// null or an empty candidate is the end of candidates; anything that is no RTCIceCandidateInit is taken for that.
function readCandidate(candidate) {
  return typeof candidate?.candidate === "string" && candidate.candidate ? candidate : null;
}
