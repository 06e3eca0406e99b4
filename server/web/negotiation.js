// State machine of the negotiation with one remote: calls, offers, answers, glare, candidates, hang-ups and deadlines.
//
// Pure: no DOM, no WebRTC, no clock. `handle(event, now)` takes one event and returns the commands to execute, in
// order. `deadline` is the time at which the caller must pass in a `Tick`. These are the modules of peer/negotiation,
// line by line. They explain the rules, and the cases in tests/negotiation/cases.json test both.
//
// Events   { type: "Dial", timeout, call } · { type: "HangUp", reason }
//          { type: "OfferReceived", sdp, allowed, call, round } · { type: "AnswerReceived", sdp, call, round }
//          { type: "CandidateReceived", candidate } · { type: "HangUpReceived", reason, detail, call, round }
//          { type: "PeerGone" } · { type: "PeerBack" } · { type: "PeerRestarted" } · { type: "Tick" }
//          and of the connection `generation`: { type: "OfferCreated", sdp } · { type: "AnswerCreated", sdp }
//          { type: "DescriptionFailed" } · { type: "LocalCandidate", candidate } · { type: "TransportConnected" }
//          { type: "TransportClosed", reason } · { type: "MediaSilent" } · { type: "MediaFlowing" }
// Commands { type: "SendOffer" | "SendAnswer", sdp, call, round } · { type: "SendCandidate", candidate }
//          { type: "SendHangUp", reason, detail, call, round }
//          { type: "CallStarted", incoming } · { type: "CallEnded", reason, detail }
//          and for the connection `generation`: { type: "CreateOffer" } · { type: "CreateAnswer", sdp }
//          { type: "Renegotiate", sdp, ice_restart } · { type: "ApplyAnswer", sdp }
//          { type: "AddCandidate", candidate } · { type: "Close" } · { type: "CallConnected" }
// `call`, `round` and `detail` are left out of commands where there are none. Times are seconds on any monotonic clock.
// Candidates are W3C RTCIceCandidateInit.

import { SecondOffer, classify, readIdentity } from "./description_identity.js";

// Maximum number of queued candidates, and of queued offers. When full, the oldest candidate or the newest offer is
// dropped.
const MAX_QUEUED = 64;

// Memory of a queued offer or candidate in addition to its text, in bytes.
const ITEM_OVERHEAD = 256;

// Maximum absence of a peer that does not send `call`, in seconds, while its media flows: it reconnects to a relay that
// restarts.
const ABSENCE_TIMEOUT = 20;

// Maximum time without media during the absence of a peer that sends `call`, in seconds.
const PATIENCE = 30;

export const Phase = Object.freeze({
  IDLE: "idle",
  WAITING: "waiting",
  OFFERING: "offering",
  OFFERED: "offered",
  ANSWERING: "answering",
  CONNECTING: "connecting",
  CONNECTED: "connected",
});

// What to do with an offer of the remote once its answer is created.
const Outcome = Object.freeze({
  ACCEPTED: "accepted",
  SUPERSEDED: "superseded",
  HUNG_UP: "hung-up",
  DECLINED: "declined",
});

// How an offer of the remote relates to the current call (rule 0).
const Relation = Object.freeze({
  STARTS: "starts",
  CONTINUES: "continues",
  REPEATED: "repeated",
  STALE: "stale",
  UNKNOWN: "unknown",
});

// Maps the peer's failure reasons to ours, so that a failed call is not reported as a deliberate hang-up because the
// peer detected the failure first.
const FAILURES = Object.freeze({
  __proto__: null,
  "transport-failed": "transport-failed",
  timeout: "timeout",
  "no-answer": "timeout",
  "media-error": "transport-failed",
});

const DIALING = new Set([Phase.WAITING, Phase.OFFERING, Phase.OFFERED]);

const fragmentOf = (candidate) =>
  candidate.usernameFragment || / ufrag (\S+)/.exec(candidate.candidate)?.[1] || null;

// Whether `candidate` belongs to the description with these ufrags. One without a ufrag always does.
const belongs = (candidate, ufrags) => {
  const fragment = fragmentOf(candidate);
  return fragment === null || ufrags.has(fragment);
};

const sizeOf = ({ candidate, sdpMid, usernameFragment }) =>
  ITEM_OVERHEAD + candidate.length + (sdpMid?.length ?? 0) + (usernameFragment?.length ?? 0);

// `call` and `round` of an offer, or null. One without either of them counts as one without both.
const offerId = (call, round) => (call == null || round == null ? null : { call, round });

const sameId = (left, right) => left?.call === right?.call && left?.round === right?.round;

// Whether an offer is applied to an existing connection, and whether it opens the first one of an accepted call.
const isSecond = (offer) => offer.second !== SecondOffer.REPLACEMENT;
const opensCall = (offer) => offer.outcome === Outcome.ACCEPTED && !isSecond(offer) && !offer.continues;

const newOffer = (sdp, identity, id, fields) => ({
  sdp,
  identity,
  id,
  outcome: Outcome.ACCEPTED,
  second: SecondOffer.REPLACEMENT,
  continues: false,
  ...fields,
});

// Negotiation between this peer (`me`) and one `remote`. `timeout`: maximum time to connect an incoming call, in
// seconds.
export class Negotiation {
  #timeout;
  #generation = 0;
  #callDeadline = null;
  #current = null; // the call's connection, { generation, identity }
  #replacement = null; // of the current connection (rule 0 e), { generation, identity }
  #replacementDeadline = null;
  #described = null; // identity of the remote's last description, applied or in line
  #unanswered = null; // our unanswered offer, { generation, id, deadline }; not the current one once it is abandoned
  #running = null; // the remote's offer that is being answered, { generation, offer, deadline }
  #offers = []; // the remote's, queued behind that one
  #call = null; // id of the current call; its highest round; whether the remote has sent `call` in it
  #round = 0;
  #named = false;
  #reply = null; // the last reply to an offer with an id, { id, command }
  #remoteCandidates = []; // queued until the remote description arrives
  #localCandidates = []; // queued until our description is sent
  #absentSince = null; // rule 7
  #silentSince = null;
  #commands = [];

  constructor(me, remote, timeout = 15) {
    if (me === remote) throw new Error("a peer does not call itself");
    this.me = me;
    this.remote = remote;
    this.phase = Phase.IDLE;
    this.#timeout = timeout;
  }

  // Time at which `handle({ type: "Tick" }, now)` is due; null if there is no deadline.
  get deadline() {
    const deadlines = [
      this.#callDeadline,
      this.#replacementDeadline,
      this.#unanswered?.deadline ?? null,
      this.#running?.deadline ?? null,
      this.#absenceDeadline,
    ];
    const due = deadlines.filter((time) => time !== null);
    return due.length ? Math.min(...due) : null;
  }

  // Size of the remote's queued offers and candidates, in bytes.
  get waitingBytes() {
    const offers = this.#offers.reduce((sum, { sdp }) => sum + sdp.length + ITEM_OVERHEAD, 0);
    return this.#remoteCandidates.reduce((sum, candidate) => sum + sizeOf(candidate), offers);
  }

  // Drop the remote's queued offers and candidates. A call that they belong to ends at its deadline.
  dropWaiting() {
    this.#offers = [];
    this.#remoteCandidates = [];
  }

  // Whether there is no call and no offer is unanswered on either side. This object may then be discarded.
  get settled() {
    return this.phase === Phase.IDLE && this.#unanswered === null && this.#running === null;
  }

  // Whether `offer` would start a call that our user did not dial: the user decides on it.
  startsCall({ sdp, call, round }) {
    if (DIALING.has(this.phase) || (this.#unanswered !== null && this.me < this.remote)) return false;
    if (this.#relate(offerId(call, round)) !== Relation.STARTS) return false;
    return this.#secondOffer(readIdentity(sdp)) === SecondOffer.REPLACEMENT;
  }

  handle(event, now) {
    this.#commands = [];
    switch (event.type) {
      case "Dial":
        this.#dial(now + event.timeout, event.call ?? null);
        break;
      case "HangUp":
        this.#hangUp(event.reason ?? "hang-up");
        break;
      case "OfferReceived":
        this.#offerReceived(event, now);
        break;
      case "AnswerReceived":
        this.#answerReceived(event);
        break;
      case "CandidateReceived":
        this.#candidateReceived(event.candidate);
        break;
      case "HangUpReceived":
        this.#hangUpReceived(event);
        break;
      case "OfferCreated":
        this.#offerCreated(event.generation, event.sdp);
        break;
      case "AnswerCreated":
        this.#answerCreated(event.generation, event.sdp);
        break;
      case "DescriptionFailed":
        this.#descriptionFailed(event.generation, event.detail);
        break;
      case "LocalCandidate":
        this.#localCandidate(event.generation, event.candidate);
        break;
      case "TransportConnected":
        this.#transportConnected(event.generation);
        break;
      case "TransportClosed":
        this.#transportClosed(event.generation, event.reason);
        break;
      case "MediaSilent":
        if (this.#isCurrent(event.generation) && this.phase === Phase.CONNECTED) this.#silentSince ??= now;
        break;
      case "MediaFlowing":
        if (this.#isCurrent(event.generation)) this.#silentSince = null;
        break;
      case "PeerGone":
        this.#peerGone(now);
        break;
      case "PeerBack":
        this.#absentSince = null;
        break;
      case "PeerRestarted":
        this.#peerRestarted();
        break;
      case "Tick":
        this.#tick(now);
        break;
      default:
        throw new Error(`no such event: ${event.type}`);
    }
    this.#endIfAbsent(now);
    this.#processLine(now);
    const out = this.#commands;
    this.#commands = [];
    return out;
  }

  // --- events of the user ---

  #dial(deadline, call) {
    if (this.phase !== Phase.IDLE) return;
    this.#emit("CallStarted", { incoming: false });
    this.phase = Phase.WAITING; // #processLine creates the offer once rule 4 permits it
    this.#callDeadline = deadline;
    this.#startRounds({ call, round: 1 }, false);
  }

  #hangUp(reason) {
    if (this.phase === Phase.IDLE) return;
    if (this.phase === Phase.ANSWERING) {
      this.#mark(Outcome.HUNG_UP); // rule 4: answer, then hang up
    } else if (this.phase !== Phase.WAITING && this.phase !== Phase.OFFERING) {
      this.#dropSecondOffers(); // in those two phases nothing has been sent
      this.#declineNext();
      this.#sendHangUp(reason);
    }
    this.#endCall(reason);
  }

  // --- messages of the remote ---

  #offerReceived({ sdp, allowed = true, call, round }, now) {
    const id = offerId(call, round);
    let relation = this.#relate(id);
    if (relation === Relation.REPEATED) {
      this.#commands.push({ ...this.#reply.command });
      return;
    }
    if (this.#unanswered !== null) {
      if (this.me < this.remote) return; // rule 2: our offer stands, even an abandoned one: the remote answers it
      this.#unanswered = null; // rule 2: the remote's stands, whatever its id; ours will never be answered
      relation = Relation.STARTS;
    } else if (relation === Relation.STALE) {
      return;
    } else if (relation === Relation.UNKNOWN) {
      this.#emit("SendHangUp", { reason: "unknown-call", ...id });
      return;
    }
    if (this.#offers.length >= MAX_QUEUED) return; // a flood: a conforming peer waits for the answer
    const identity = readIdentity(sdp);
    const continues = relation === Relation.CONTINUES;
    const second = this.#secondOffer(identity, continues);
    if (second !== SecondOffer.REPLACEMENT || (continues && this.phase === Phase.CONNECTED)) {
      this.#furtherOffer(newOffer(sdp, identity, id, { second }), now);
    } else if (!allowed && !continues && !DIALING.has(this.phase)) {
      this.#offers.push(newOffer("", identity, id, { outcome: Outcome.DECLINED }));
    } else {
      this.#acceptOffer(newOffer(sdp, identity, id), now);
    }
  }

  #relate(id) {
    if (id === null) return Relation.STARTS;
    if (this.#reply !== null && sameId(id, this.#reply.id)) return Relation.REPEATED;
    if (id.call === this.#call) return id.round > this.#round ? Relation.CONTINUES : Relation.STALE;
    return id.round === 1 ? Relation.STARTS : Relation.UNKNOWN;
  }

  #secondOffer(identity, continues = false) {
    return this.#described === null ? SecondOffer.REPLACEMENT : classify(this.#described, identity, continues);
  }

  // Put in line an offer that leaves the call as it is for the user: on its connection, or on a new one.
  #furtherOffer(offer, now) {
    if (!isSecond(offer)) {
      this.#closeReplacement();
      this.#dropOffersOfConnections(); // rule 0 d: a newer round voids older ones
      offer.continues = true;
      this.#replacementDeadline = now + this.#timeout;
    }
    if (offer.id !== null) this.#startRounds(offer.id, true);
    this.#described = offer.identity;
    this.#offers.push(offer);
  }

  // Put in line an offer that starts a call, or takes the place of the one that is being set up.
  #acceptOffer(offer, now) {
    if (this.phase === Phase.CONNECTED) this.#endCall("replaced"); // rule 3
    if (this.phase === Phase.IDLE) {
      this.#emit("CallStarted", { incoming: true });
      this.#callDeadline = now + this.#timeout;
    }
    this.#mark(Outcome.SUPERSEDED); // by this newer offer
    this.#releaseConnections();
    this.phase = Phase.ANSWERING;
    this.#startRounds(offer.id ?? { call: null, round: 0 }, offer.id !== null);
    this.#described = offer.identity;
    this.#offers.push(offer);
  }

  #answerReceived({ sdp, call = null, round = null }) {
    const ours = this.#unanswered;
    if (call !== null && (ours === null || !sameId({ call, round }, ours.id))) {
      if (call !== this.#call) this.#emit("SendHangUp", named("hang-up", call)); // its call is over
      return; // rule 0 a
    }
    if (ours === null) return; // the answer to an offer that has timed out
    this.#unanswered = null;
    if (!this.#isCurrent(ours.generation)) {
      this.#emit("SendHangUp", named("hang-up", ours.id?.call)); // abandoned; repeat the hang-up, if it was lost
      return;
    }
    this.phase = Phase.CONNECTING;
    if (call !== null) this.#named = true;
    this.#described = readIdentity(sdp);
    this.#emit("ApplyAnswer", { generation: ours.generation, sdp });
    this.#current = this.#withDescription(ours.generation, this.#described);
  }

  #candidateReceived(candidate) {
    // End-of-candidates is ignored: a candidate that arrives after it would be lost, and rule 5 bounds the wait.
    if (!candidate || !candidate.candidate) return;
    for (const link of [this.#replacement, this.#current]) {
      const ufrags = link?.identity?.ufrags;
      if (ufrags?.size > 0 && belongs(candidate, ufrags)) {
        this.#emit("AddCandidate", { generation: link.generation, candidate });
        return;
      }
    }
    this.#remoteCandidates = [...this.#remoteCandidates, candidate].slice(-MAX_QUEUED);
  }

  #hangUpReceived({ reason = null, detail, call = null, round = null }) {
    const ended = FAILURES[reason] ?? "remote-hang-up";
    const ours = this.#unanswered;
    const established = this.phase === Phase.CONNECTING || this.phase === Phase.CONNECTED;
    if (ours !== null && resolves(reason, call, round, ours)) {
      this.#unanswered = null;
      if (this.#isCurrent(ours.generation)) this.#endCall(reason === "declined" ? "declined" : ended, detail);
    } else if (call !== null && call !== this.#call) {
      return; // rule 0 h: of another call
    } else if (this.phase === Phase.ANSWERING) {
      this.#mark(Outcome.SUPERSEDED);
      this.#endCall(ended, detail);
    } else if (established || (call !== null && this.phase !== Phase.IDLE)) {
      this.#endCall(ended, detail);
    } // in the other phases a hang-up without `call` refers to an older call
  }

  // --- presence of the remote ---

  #peerGone(now) {
    this.#unanswered = null;
    if (this.phase === Phase.CONNECTED) {
      this.#absentSince ??= now; // rule 7; what is in line belongs to this call
      return;
    }
    this.#discardLine();
    if (this.phase !== Phase.IDLE) this.#endCall("peer-left");
  }

  #peerRestarted() {
    this.#unanswered = null;
    this.#discardLine();
    const nothingSent = [Phase.IDLE, Phase.WAITING, Phase.OFFERING].includes(this.phase);
    if (!nothingSent) this.#endCall("peer-left");
    this.#reply = null;
  }

  // Drop what is in line: its sender is gone and expects no answer.
  #discardLine() {
    const running = this.#running;
    this.#running = null;
    this.#offers = [];
    this.#remoteCandidates = [];
    if (running !== null && !this.#isLink(running.generation)) this.#emit("Close", { generation: running.generation });
  }

  get #absenceDeadline() {
    if (this.#absentSince === null) return null;
    if (this.#named) return this.#silentSince === null ? null : this.#silentSince + PATIENCE;
    return this.#silentSince === null ? this.#absentSince + ABSENCE_TIMEOUT : this.#absentSince;
  }

  #endIfAbsent(now) {
    const deadline = this.#absenceDeadline;
    if (this.phase === Phase.CONNECTED && deadline !== null && now >= deadline) this.#endCall("peer-left");
  }

  // --- events of the connections ---

  #offerCreated(generation, sdp) {
    if (!this.#isCurrent(generation) || this.phase !== Phase.OFFERING) return;
    this.phase = Phase.OFFERED;
    const id = offerId(this.#call, this.#round);
    this.#unanswered = { generation, id, deadline: this.#callDeadline };
    this.#emit("SendOffer", { sdp, ...id });
    this.#sendLocalCandidates();
  }

  #answerCreated(generation, sdp) {
    if (!this.#isAnswering(generation)) return;
    const { offer } = this.#running;
    this.#running = null;
    this.#sendReply(offer, { type: "SendAnswer", sdp, ...offer.id });
    if (offer.outcome === Outcome.ACCEPTED) {
      if (opensCall(offer)) this.phase = Phase.CONNECTING;
      this.#sendLocalCandidates();
      return;
    }
    if (offer.outcome === Outcome.HUNG_UP) this.#emit("SendHangUp", named("hang-up", offer.id?.call));
    this.#emit("Close", { generation });
  }

  #descriptionFailed(generation, detail) {
    if (this.#isAnswering(generation)) {
      this.#abandonAnswer("media-error", detail);
    } else if (this.#isCurrent(generation)) {
      if (this.phase !== Phase.OFFERING) this.#sendHangUp("media-error", detail);
      this.#endCall("media-error", detail);
    } else if (this.#isLink(generation)) {
      this.#replacementFailed("media-error", detail);
    }
  }

  #localCandidate(generation, candidate) {
    if (!this.#isLink(generation)) return;
    if (this.phase === Phase.OFFERING || this.#isAnswering(generation)) {
      this.#localCandidates = [...this.#localCandidates, candidate].slice(-MAX_QUEUED);
    } else {
      this.#emit("SendCandidate", { candidate });
    }
  }

  #transportConnected(generation) {
    if (this.#isCurrent(generation) && this.phase === Phase.CONNECTING) {
      this.phase = Phase.CONNECTED;
      this.#callDeadline = null;
      this.#emit("CallConnected", { generation });
    } else if (this.#replacement?.generation === generation) {
      if (this.#current !== null) this.#closeCurrent();
      this.#current = this.#replacement;
      this.#replacement = null;
      this.#replacementDeadline = null;
      this.#silentSince = null;
      this.#emit("CallConnected", { generation });
    }
  }

  #transportClosed(generation, reason) {
    const established = this.phase === Phase.CONNECTING || this.phase === Phase.CONNECTED;
    if (this.#isCurrent(generation) && established) {
      const continues = this.#running?.offer.continues || this.#offers.some((offer) => offer.continues);
      if (this.#replacement !== null || continues) {
        this.#closeCurrent(); // the call continues on the replacement
        return;
      }
      this.#sendHangUp(reason);
      this.#endCall(reason);
    } else if (this.#isLink(generation) && !this.#isCurrent(generation)) {
      this.#replacementFailed(reason);
    }
  }

  // Keep the call on its old connection, if that still exists, and drop the offers meant for the new one.
  #replacementFailed(reason, detail) {
    this.#closeReplacement();
    if (this.#current === null) {
      this.#sendHangUp(reason, detail);
      this.#endCall(reason, detail);
      return;
    }
    this.#dropOffersOfConnections();
    this.#described = this.#current.identity;
  }

  // --- deadlines ---

  #tick(now) {
    if (this.#running !== null && now >= this.#running.deadline) this.#abandonAnswer("timeout");
    if (this.#unanswered !== null && now >= this.#unanswered.deadline) {
      const timedOut = this.#unanswered.generation;
      this.#unanswered = null;
      if (this.#isCurrent(timedOut)) {
        this.#sendHangUp("no-answer");
        this.#endCall("no-answer");
      }
    }
    if (this.#replacementDeadline !== null && now >= this.#replacementDeadline) this.#replacementFailed("timeout");
    if (this.#callDeadline !== null && now >= this.#callDeadline) {
      this.#hangUp(this.phase === Phase.WAITING ? "no-answer" : "timeout");
    }
  }

  // --- steps that several events share ---

  #emit(type, fields) {
    this.#commands.push({ type, ...fields });
  }

  #sendHangUp(reason, detail) {
    this.#emit("SendHangUp", { ...named(reason, this.#call), ...(detail && { detail }) });
  }

  // Send the reply to `offer`, and keep it for a repetition of that offer. Once the call is over, that opens nothing.
  #sendReply(offer, command) {
    this.#commands.push(command);
    if (offer.id === null) return;
    this.#reply = { id: offer.id, command };
    if (offer.id.call !== this.#call) this.#callIsOver();
  }

  #callIsOver() {
    if (this.#reply?.command.type !== "SendAnswer") return;
    this.#reply.command = { type: "SendHangUp", reason: "unknown-call", ...this.#reply.id };
  }

  #startRounds({ call, round }, named) {
    this.#call = call;
    this.#round = round;
    this.#named = named;
  }

  #isCurrent(generation) {
    return this.#current !== null && this.#current.generation === generation;
  }

  #isLink(generation) {
    return this.#isCurrent(generation) || (this.#replacement !== null && this.#replacement.generation === generation);
  }

  #isAnswering(generation) {
    return this.#running !== null && this.#running.generation === generation;
  }

  // Start what rule 4 has delayed: answering the next queued offer, then sending our own.
  #processLine(now) {
    this.#declineNext();
    if (this.#offers.length && this.#running === null) this.#answerNext(now);
    if (this.phase === Phase.WAITING && this.#unanswered === null && this.#running === null) {
      this.#generation += 1;
      this.#current = { generation: this.#generation, identity: null };
      this.phase = Phase.OFFERING;
      this.#emit("CreateOffer", { generation: this.#generation });
    }
  }

  // Decline the offers at the head of the line that are to be declined.
  #declineNext() {
    while (this.#running === null && this.#offers[0]?.outcome === Outcome.DECLINED) {
      const offer = this.#offers.shift();
      this.#sendReply(offer, { type: "SendHangUp", reason: "declined", ...offer.id });
    }
  }

  #answerNext(now) {
    const offer = this.#offers.shift();
    const { sdp, identity } = offer;
    let generation;
    if (isSecond(offer)) {
      generation = (this.#replacement ?? this.#current).generation;
      this.#emit("Renegotiate", { generation, sdp, ice_restart: offer.second === SecondOffer.ICE_RESTART });
    } else {
      generation = this.#generation += 1;
      this.#emit("CreateAnswer", { generation, sdp });
    }
    this.#running = { generation, offer, deadline: now + this.#timeout };
    if (offer.continues || (isSecond(offer) && this.#replacement !== null)) {
      this.#replacement = this.#withDescription(generation, identity);
    } else if (offer.outcome === Outcome.ACCEPTED) {
      this.#current = this.#withDescription(generation, identity);
    }
  }

  // Accept candidates of a new remote description: add the queued ones that belong to it, drop the others.
  #withDescription(generation, identity) {
    for (const candidate of this.#remoteCandidates) {
      if (belongs(candidate, identity.ufrags)) this.#emit("AddCandidate", { generation, candidate });
    }
    this.#remoteCandidates = [];
    return { generation, identity };
  }

  #sendLocalCandidates() {
    for (const candidate of this.#localCandidates) this.#emit("SendCandidate", { candidate });
    this.#localCandidates = [];
  }

  // Give all offers that open the call another outcome.
  #mark(outcome) {
    if (this.#running !== null && opensCall(this.#running.offer)) this.#running.offer.outcome = outcome;
    for (const offer of this.#offers) {
      if (opensCall(offer)) offer.outcome = outcome;
    }
  }

  // Send a `declined` hang-up in place of the answer, because creating it failed or timed out.
  #abandonAnswer(reason, detail) {
    const { generation, offer } = this.#running;
    this.#running = null;
    const command = { type: "SendHangUp", reason: "declined", ...(detail && { detail }), ...offer.id };
    this.#sendReply(offer, command);
    if (offer.outcome === Outcome.ACCEPTED) {
      this.#endCall(reason, detail);
    } else {
      this.#emit("Close", { generation });
    }
  }

  // --- closing ---

  // Drop the offers of connections that are about to close.
  #dropSecondOffers() {
    const running = this.#running;
    if (running !== null && (isSecond(running.offer) || running.offer.continues)) {
      this.#running = null;
      if (running.offer.id === null) this.#emit("SendHangUp", { reason: "declined" });
    }
    this.#dropOffersOfConnections();
  }

  // A queued second offer without an id gets `declined`. One with an id needs nothing: the hang-up, or the round that
  // replaces its call, voids it (rule 0 d, h).
  #dropOffersOfConnections() {
    this.#offers = this.#offers
      .filter((offer) => !offer.continues && (offer.id === null || !isSecond(offer)))
      .map((offer) =>
        isSecond(offer) ? newOffer("", offer.identity, offer.id, { outcome: Outcome.DECLINED }) : offer,
      );
  }

  // Close the connection that the replacement takes the place of, and drop its running answer.
  #closeCurrent() {
    if (this.#isAnswering(this.#current.generation)) this.#running = null;
    this.#emit("Close", { generation: this.#current.generation });
    this.#current = null;
  }

  // Close the connection that was to continue the call, if there is one, and drop its running answer.
  #closeReplacement() {
    this.#replacementDeadline = null;
    if (this.#replacement === null) return;
    if (this.#isAnswering(this.#replacement.generation)) {
      this.#running = null;
      this.#localCandidates = [];
    }
    this.#emit("Close", { generation: this.#replacement.generation });
    this.#replacement = null;
  }

  // Close the call's connections. One that is being answered stays open until #answerCreated closes it.
  #releaseConnections() {
    this.#dropSecondOffers();
    this.#closeReplacement();
    if (this.#current !== null && !this.#isAnswering(this.#current.generation)) {
      this.#emit("Close", { generation: this.#current.generation });
    }
    this.#current = null;
    this.#described = null;
    this.#localCandidates = [];
    this.#absentSince = null;
    this.#silentSince = null;
  }

  #endCall(reason, detail) {
    this.#releaseConnections();
    this.phase = Phase.IDLE;
    this.#callDeadline = null;
    this.#startRounds({ call: null, round: 0 }, false);
    this.#callIsOver();
    this.#emit("CallEnded", explained(reason, detail));
  }
}

// Whether a hang-up takes the place of the answer to our offer, or says that its call is over.
function resolves(reason, call, round, ours) {
  if (call === null) return reason === "declined";
  return call === ours.id?.call && (round === null || round === ours.id.round);
}

// A hang-up that ends `call`, if that has an id.
function named(reason, call) {
  return call ? { reason, call } : { reason };
}

// A reason, with a sentence for people where there is one.
function explained(reason, detail) {
  return detail ? { reason, detail } : { reason };
}
