// State machine of the negotiation with one remote: offers, answers, glare, candidates, hang-ups and deadlines.
//
// Pure: no DOM, no WebRTC, no clock. `handle(event, now)` takes one event and returns the commands to execute, in
// order. `deadline` is the time at which the caller must pass in a `Tick`. This is peer/negotiation/state_machine.py,
// line by line. That file explains the rules, and the cases in tests/negotiation/cases.json test both.
//
// Events   { type: "Dial", timeout } · { type: "HangUp", reason } · { type: "OfferReceived", sdp, allowed }
//          { type: "AnswerReceived", sdp } · { type: "CandidateReceived", candidate }
//          { type: "HangUpReceived", reason } · { type: "PeerGone" } · { type: "PeerBack" } · { type: "Tick" }
//          and of the connection `generation`: { type: "OfferCreated", sdp } · { type: "AnswerCreated", sdp }
//          { type: "DescriptionFailed" } · { type: "LocalCandidate", candidate } · { type: "TransportConnected" }
//          { type: "TransportClosed", reason } · { type: "MediaSilent" } · { type: "MediaFlowing" }
// Commands { type: "SendOffer" | "SendAnswer", sdp } · { type: "SendCandidate", candidate }
//          { type: "SendHangUp", reason } · { type: "CallStarted", incoming } · { type: "CallEnded", reason }
//          and for the connection `generation`: { type: "CreateOffer" } · { type: "CreateAnswer", sdp }
//          { type: "ApplyAnswer", sdp } · { type: "AddCandidate", candidate } · { type: "Close" }
//          { type: "CallConnected" }
// Times are seconds on any monotonic clock. Candidates are W3C RTCIceCandidateInit.

// Maximum number of queued candidates, and of queued offers. When full, the oldest candidate or the newest offer is
// dropped.
const MAX_QUEUED = 64;

// Maximum absence of a connected peer from the room, in seconds, while its media flows: it reconnects to a relay that
// restarts.
const ABSENCE_TIMEOUT = 20;

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

const fragmentsOf = (sdp) => new Set([...sdp.matchAll(/^a=ice-ufrag:(\S+)/gm)].map((match) => match[1]));

const fragmentOf = (candidate) =>
  candidate.usernameFragment || / ufrag (\S+)/.exec(candidate.candidate)?.[1] || null;

// Negotiation between this peer (`me`) and one `remote`. `timeout`: maximum time to connect an incoming call, in
// seconds.
export class Negotiation {
  #timeout;
  #generation = 0;
  #current = null; // generation of the call's connection
  #callDeadline = null;
  #unanswered = null; // generation of our unanswered offer; not #current once it is abandoned
  #offerDeadline = null;
  #answering = null; // generation whose createAnswer is running
  #answerDeadline = null;
  #outcome = Outcome.ACCEPTED; // of the offer that is being answered
  #offers = []; // the remote's, queued behind that one: { sdp, outcome }
  #fragments = new Set(); // ufrags of the current remote description
  #remoteCandidates = []; // queued until the remote description arrives
  #localCandidates = []; // queued until our description is sent
  #absenceDeadline = null; // set while the peer is out of the room (rule 7)
  #silent = false;
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
    const deadlines = [this.#callDeadline, this.#offerDeadline, this.#answerDeadline, this.#absenceDeadline];
    const due = deadlines.filter((time) => time !== null);
    return due.length ? Math.min(...due) : null;
  }

  // Whether there is no call and no offer is unanswered on either side. This object may then be discarded.
  get settled() {
    return this.phase === Phase.IDLE && this.#unanswered === null && this.#answering === null;
  }

  // Whether an offer that arrives now loses the glare and is ignored (rule 2).
  get winsGlare() {
    return this.#unanswered !== null && this.me < this.remote;
  }

  handle(event, now) {
    this.#commands = [];
    switch (event.type) {
      case "Dial":
        this.#dial(now + event.timeout);
        break;
      case "HangUp":
        this.#hangUp(event.reason ?? "hang-up");
        break;
      case "OfferReceived":
        this.#offerReceived(event.sdp, event.allowed ?? true, now);
        break;
      case "AnswerReceived":
        this.#answerReceived(event.sdp);
        break;
      case "CandidateReceived":
        this.#candidateReceived(event.candidate);
        break;
      case "HangUpReceived":
        this.#hangUpReceived(event.reason ?? null, event.detail);
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
        this.#mediaSilent(event.generation);
        break;
      case "MediaFlowing":
        if (event.generation === this.#current) this.#silent = false;
        break;
      case "PeerGone":
        this.#peerGone(now);
        break;
      case "PeerBack":
        this.#absenceDeadline = null;
        break;
      case "Tick":
        this.#tick(now);
        break;
      default:
        throw new Error(`no such event: ${event.type}`);
    }
    this.#processQueue(now);
    const out = this.#commands;
    this.#commands = [];
    return out;
  }

  // --- events of the user ---

  #dial(deadline) {
    if (this.phase !== Phase.IDLE) return;
    this.#emit("CallStarted", { incoming: false });
    this.phase = Phase.WAITING; // #processQueue creates the offer once rule 4 permits it
    this.#callDeadline = deadline;
  }

  #hangUp(reason) {
    if (this.phase === Phase.IDLE) return;
    if (this.phase === Phase.ANSWERING) {
      this.#markAcceptedOffers(Outcome.HUNG_UP); // rule 4: answer, then hang up
    } else if (this.phase !== Phase.WAITING && this.phase !== Phase.OFFERING) {
      this.#emit("SendHangUp", { reason }); // in those two phases nothing has been sent
    }
    this.#endCall(reason);
  }

  // --- messages of the remote ---

  #offerReceived(sdp, allowed, now) {
    if (this.winsGlare) return; // rule 2: our offer stands, even an abandoned one: the remote answers it
    if (this.#unanswered !== null) this.#resolveOffer(); // rule 2: the remote's stands; ours will never be answered
    if (this.#offers.length >= MAX_QUEUED) return; // a flood: a conforming peer waits for the answer
    if (!allowed && !DIALING.has(this.phase)) {
      this.#offers.push({ sdp, outcome: Outcome.DECLINED });
      return;
    }
    if (this.phase === Phase.CONNECTED) this.#endCall("replaced"); // rule 3
    if (this.phase === Phase.IDLE) {
      this.#emit("CallStarted", { incoming: true });
      this.#callDeadline = now + this.#timeout;
    }
    this.#markAcceptedOffers(Outcome.SUPERSEDED); // by this newer offer
    this.#releaseConnection();
    this.phase = Phase.ANSWERING;
    this.#offers.push({ sdp, outcome: Outcome.ACCEPTED });
  }

  #answerReceived(sdp) {
    if (this.#unanswered === null) return; // the answer to an offer that has timed out
    const answered = this.#unanswered;
    this.#resolveOffer();
    if (answered !== this.#current) {
      this.#emit("SendHangUp", { reason: "hang-up" }); // the offer was abandoned; repeat the hang-up, if it was lost
      return;
    }
    this.phase = Phase.CONNECTING;
    this.#emit("ApplyAnswer", { generation: answered, sdp });
    this.#remoteDescriptionSet(sdp);
  }

  #candidateReceived(candidate) {
    // End-of-candidates is ignored: a candidate that arrives after it would be lost, and rule 5 bounds the wait.
    if (!candidate || !candidate.candidate) return;
    const fragment = fragmentOf(candidate);
    const known = this.#fragments.size > 0 && (fragment === null || this.#fragments.has(fragment));
    if (this.#current !== null && known) {
      this.#emit("AddCandidate", { generation: this.#current, candidate });
    } else {
      this.#remoteCandidates = [...this.#remoteCandidates, candidate].slice(-MAX_QUEUED);
    }
  }

  #hangUpReceived(reason, detail) {
    if (reason === "declined" && this.#unanswered !== null) {
      const declined = this.#unanswered;
      this.#resolveOffer();
      if (declined === this.#current) this.#endCall("declined", detail);
    } else if (this.phase === Phase.ANSWERING) {
      this.#markAcceptedOffers(Outcome.SUPERSEDED);
      this.#endCall(FAILURES[reason] ?? "remote-hang-up", detail);
    } else if (this.phase === Phase.CONNECTING || this.phase === Phase.CONNECTED) {
      this.#endCall(FAILURES[reason] ?? "remote-hang-up", detail);
    } // in the other phases it refers to an older call
  }

  #peerGone(now) {
    this.#resolveOffer();
    this.#offers = [];
    this.#remoteCandidates = [];
    if (this.#answering !== null) {
      if (this.#answering !== this.#current) this.#emit("Close", { generation: this.#answering });
      this.#resolveAnswer();
    }
    if (this.phase === Phase.CONNECTED && !this.#silent) {
      this.#absenceDeadline ??= now + ABSENCE_TIMEOUT; // rule 7
    } else if (this.phase !== Phase.IDLE) {
      this.#endCall("peer-left");
    }
  }

  // --- events of the connection ---

  #offerCreated(generation, sdp) {
    if (generation !== this.#current || this.phase !== Phase.OFFERING) return;
    this.phase = Phase.OFFERED;
    this.#unanswered = generation;
    this.#offerDeadline = this.#callDeadline;
    this.#emit("SendOffer", { sdp });
    this.#sendLocalCandidates();
  }

  #answerCreated(generation, sdp) {
    if (generation !== this.#answering) return;
    const outcome = this.#outcome;
    this.#resolveAnswer();
    this.#emit("SendAnswer", { sdp });
    if (outcome === Outcome.ACCEPTED) {
      this.phase = Phase.CONNECTING;
      this.#sendLocalCandidates();
      return;
    }
    if (outcome === Outcome.HUNG_UP) this.#emit("SendHangUp", { reason: "hang-up" });
    this.#emit("Close", { generation });
  }

  #descriptionFailed(generation, detail) {
    if (generation === this.#answering) {
      this.#abandonAnswer("media-error", detail);
    } else if (generation === this.#current) {
      if (this.phase !== Phase.OFFERING) this.#emit("SendHangUp", explained("media-error", detail));
      this.#endCall("media-error", detail);
    }
  }

  #localCandidate(generation, candidate) {
    if (generation !== this.#current) return;
    if (this.phase === Phase.OFFERING || this.phase === Phase.ANSWERING) {
      this.#localCandidates = [...this.#localCandidates, candidate].slice(-MAX_QUEUED);
    } else {
      this.#emit("SendCandidate", { candidate });
    }
  }

  #transportConnected(generation) {
    if (generation !== this.#current || this.phase !== Phase.CONNECTING) return;
    this.phase = Phase.CONNECTED;
    this.#callDeadline = null;
    this.#emit("CallConnected", { generation });
  }

  #transportClosed(generation, reason) {
    if (generation !== this.#current) return;
    if (this.phase !== Phase.CONNECTING && this.phase !== Phase.CONNECTED) return;
    this.#emit("SendHangUp", { reason });
    this.#endCall(reason);
  }

  #mediaSilent(generation) {
    if (generation !== this.#current || this.phase !== Phase.CONNECTED) return;
    this.#silent = true;
    if (this.#absenceDeadline !== null) this.#endCall("peer-left");
  }

  // --- deadlines ---

  #tick(now) {
    if (this.#answerDeadline !== null && now >= this.#answerDeadline) this.#abandonAnswer("timeout");
    if (this.#offerDeadline !== null && now >= this.#offerDeadline) {
      const timedOut = this.#unanswered;
      this.#resolveOffer();
      if (timedOut === this.#current) {
        this.#emit("SendHangUp", { reason: "no-answer" });
        this.#endCall("no-answer");
      }
    }
    if (this.#absenceDeadline !== null && now >= this.#absenceDeadline) this.#endCall("peer-left");
    if (this.#callDeadline !== null && now >= this.#callDeadline) {
      this.#hangUp(this.phase === Phase.WAITING ? "no-answer" : "timeout");
    }
  }

  // --- steps that several events share ---

  #emit(type, fields) {
    this.#commands.push({ type, ...fields });
  }

  // Start what rule 4 has delayed: answering the next queued offer, then sending our own.
  #processQueue(now) {
    while (this.#offers.length && this.#answering === null) {
      const { sdp, outcome } = this.#offers.shift();
      if (outcome === Outcome.DECLINED) {
        this.#emit("SendHangUp", { reason: "declined" });
        continue;
      }
      this.#generation += 1;
      this.#answering = this.#generation;
      this.#answerDeadline = now + this.#timeout;
      this.#outcome = outcome;
      this.#emit("CreateAnswer", { generation: this.#generation, sdp });
      if (outcome === Outcome.ACCEPTED) {
        this.#current = this.#generation;
        this.#remoteDescriptionSet(sdp);
      }
    }
    if (this.phase === Phase.WAITING && this.#unanswered === null && this.#answering === null) {
      this.#generation += 1;
      this.#current = this.#generation;
      this.phase = Phase.OFFERING;
      this.#emit("CreateOffer", { generation: this.#generation });
    }
  }

  // Accept candidates of the new remote description: add the queued ones that belong to it, drop the others.
  #remoteDescriptionSet(sdp) {
    this.#fragments = fragmentsOf(sdp);
    for (const candidate of this.#remoteCandidates) {
      const fragment = fragmentOf(candidate);
      if (fragment === null || this.#fragments.has(fragment)) {
        this.#emit("AddCandidate", { generation: this.#current, candidate });
      }
    }
    this.#remoteCandidates = [];
  }

  #sendLocalCandidates() {
    for (const candidate of this.#localCandidates) this.#emit("SendCandidate", { candidate });
    this.#localCandidates = [];
  }

  #markAcceptedOffers(outcome) {
    if (this.#answering !== null && this.#outcome === Outcome.ACCEPTED) this.#outcome = outcome;
    this.#offers = this.#offers.map((offer) => (offer.outcome === Outcome.ACCEPTED ? { ...offer, outcome } : offer));
  }

  #resolveOffer() {
    this.#unanswered = null;
    this.#offerDeadline = null;
  }

  #resolveAnswer() {
    this.#answering = null;
    this.#answerDeadline = null;
  }

  // Send a `declined` hang-up in place of the answer, because creating it failed or timed out.
  #abandonAnswer(reason, detail) {
    const generation = this.#answering;
    const outcome = this.#outcome;
    this.#resolveAnswer();
    this.#emit("SendHangUp", explained("declined", detail));
    if (outcome === Outcome.ACCEPTED) {
      this.#endCall(reason, detail);
    } else {
      this.#emit("Close", { generation });
    }
  }

  // Close the call's connection. One that is being answered stays open until #answerCreated closes it.
  #releaseConnection() {
    if (this.#current !== null && this.#current !== this.#answering) this.#emit("Close", { generation: this.#current });
    this.#current = null;
    this.#fragments = new Set();
    this.#localCandidates = [];
    this.#absenceDeadline = null;
    this.#silent = false;
  }

  #endCall(reason, detail) {
    this.#releaseConnection();
    this.phase = Phase.IDLE;
    this.#callDeadline = null;
    this.#emit("CallEnded", explained(reason, detail));
  }
}

// A reason, with a sentence for people where there is one.
function explained(reason, detail) {
  return detail ? { reason, detail } : { reason };
}
