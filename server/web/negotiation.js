// The law of one call with one remote peer: offers, answers, glare, candidates, hang-ups, deadlines.
//
// PURE: no DOM, no WebRTC, no clock. `handle(event, now)` takes what happened and returns what to do, in order;
// `deadline` is when to come back with a `Tick`. This is peer/negotiation/state_machine.py, line by line: the reasons for the
// rules stand there, and tests/negotiation/cases.json holds both to the same behaviour.
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

// Candidates kept for a description that has not come; offers kept in line. The oldest candidates go first.
const MAX_QUEUED = 64;

// Seconds that a peer whose media flows may be out of the room, while it reconnects to a relay that restarts.
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

// What becomes of an offer once it is answered.
const Outcome = Object.freeze({
  ACCEPTED: "accepted",
  SUPERSEDED: "superseded",
  HUNG_UP: "hung-up",
  DECLINED: "declined",
});

// A hang-up that nobody meant is not told as one: who noticed first must not make the other think it was wanted.
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

// Everything between us (`me`) and one `remote`. `timeout`: seconds an incoming call may take until it is connected.
export class Negotiation {
  #timeout;
  #generation = 0;
  #current = null; // the connection of the call
  #callDeadline = null;
  #unanswered = null; // our offer on the wire; not #current once it is abandoned
  #offerDeadline = null;
  #answering = null; // the connection whose createAnswer is running
  #answerDeadline = null;
  #outcome = Outcome.ACCEPTED; // of the offer that is being answered
  #offers = []; // theirs, in line behind it: { sdp, outcome }
  #fragments = new Set(); // of the remote description in force
  #remoteCandidates = []; // their candidates, before their description
  #localCandidates = []; // our candidates, before our description is sent
  #absenceDeadline = null; // the peer left the room; by then it must be back
  #silent = false;
  #commands = [];

  constructor(me, remote, timeout = 15) {
    if (me === remote) throw new Error("a peer does not call itself");
    this.me = me;
    this.remote = remote;
    this.phase = Phase.IDLE;
    this.#timeout = timeout;
  }

  // When `handle({ type: "Tick" }, now)` is due; null while nothing is.
  get deadline() {
    const deadlines = [this.#callDeadline, this.#offerDeadline, this.#answerDeadline, this.#absenceDeadline];
    const due = deadlines.filter((time) => time !== null);
    return due.length ? Math.min(...due) : null;
  }

  // Whether nothing is owed to or awaited from the other side: this object may be forgotten.
  get settled() {
    return this.phase === Phase.IDLE && this.#unanswered === null && this.#answering === null;
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
        this.#hangUpReceived(event.reason ?? null);
        break;
      case "OfferCreated":
        this.#offerCreated(event.generation, event.sdp);
        break;
      case "AnswerCreated":
        this.#answerCreated(event.generation, event.sdp);
        break;
      case "DescriptionFailed":
        this.#descriptionFailed(event.generation);
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

  // --- the user ---

  #dial(deadline) {
    if (this.phase !== Phase.IDLE) return;
    this.#emit("CallStarted", { incoming: false });
    this.phase = Phase.WAITING; // #processQueue makes the offer when nothing stands in its way
    this.#callDeadline = deadline;
  }

  #hangUp(reason) {
    if (this.phase === Phase.IDLE) return;
    if (this.phase === Phase.ANSWERING) {
      this.#markAcceptedOffers(Outcome.HUNG_UP); // rule 4: answer, then hang up
    } else if (this.phase !== Phase.WAITING && this.phase !== Phase.OFFERING) {
      this.#emit("SendHangUp", { reason }); // before that the other side knows nothing of it
    }
    this.#endCall(reason);
  }

  // --- the other side ---

  #offerReceived(sdp, allowed, now) {
    if (this.#unanswered !== null) {
      // rule 2: glare
      if (this.me < this.remote) return; // ours stands, even abandoned: the other side drops its own and answers ours
      this.#resolveOffer(); // theirs stands; ours will never be answered
    }
    if (this.#offers.length >= MAX_QUEUED) return; // a flood; nobody with an honest deadline comes this far
    if (!allowed && !DIALING.has(this.phase)) {
      this.#offers.push({ sdp, outcome: Outcome.DECLINED });
      return;
    }
    if (this.phase === Phase.CONNECTED) this.#endCall("replaced"); // rule 3
    if (this.phase === Phase.IDLE) {
      this.#emit("CallStarted", { incoming: true });
      this.#callDeadline = now + this.#timeout;
    }
    this.#markAcceptedOffers(Outcome.SUPERSEDED); // the newer one stands
    this.#releaseConnection();
    this.phase = Phase.ANSWERING;
    this.#offers.push({ sdp, outcome: Outcome.ACCEPTED });
  }

  #answerReceived(sdp) {
    if (this.#unanswered === null) return; // of an offer that timed out
    const answered = this.#unanswered;
    this.#resolveOffer();
    if (answered !== this.#current) {
      this.#emit("SendHangUp", { reason: "hang-up" }); // of an offer that we gave up: said again, in case it was lost
      return;
    }
    this.phase = Phase.CONNECTING;
    this.#emit("ApplyAnswer", { generation: answered, sdp });
    this.#remoteDescriptionSet(sdp);
  }

  #candidateReceived(candidate) {
    // The end of candidates is of no use: a late candidate would be lost after it, and rule 5 ends what fails.
    if (!candidate || !candidate.candidate) return;
    const fragment = fragmentOf(candidate);
    const known = this.#fragments.size > 0 && (fragment === null || this.#fragments.has(fragment));
    if (this.#current !== null && known) {
      this.#emit("AddCandidate", { generation: this.#current, candidate });
    } else {
      this.#remoteCandidates = [...this.#remoteCandidates, candidate].slice(-MAX_QUEUED);
    }
  }

  #hangUpReceived(reason) {
    if (reason === "declined" && this.#unanswered !== null) {
      const declined = this.#unanswered;
      this.#resolveOffer();
      if (declined === this.#current) this.#endCall("declined");
    } else if (this.phase === Phase.ANSWERING) {
      this.#markAcceptedOffers(Outcome.SUPERSEDED);
      this.#endCall(FAILURES[reason] ?? "remote-hang-up");
    } else if (this.phase === Phase.CONNECTING || this.phase === Phase.CONNECTED) {
      this.#endCall(FAILURES[reason] ?? "remote-hang-up");
    } // else it speaks of an older call
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

  // --- the engine ---

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

  #descriptionFailed(generation) {
    if (generation === this.#answering) {
      this.#abandonAnswer("media-error");
    } else if (generation === this.#current) {
      if (this.phase !== Phase.OFFERING) this.#emit("SendHangUp", { reason: "media-error" });
      this.#endCall("media-error");
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

  // --- time ---

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

  // --- the parts of the law ---

  #emit(type, fields) {
    this.#commands.push({ type, ...fields });
  }

  // Take up what rule 4 held back: the next offer in line, then our own.
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

  // A remote description is in force: its candidates need not wait any more, others' are dropped.
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

  // The engine cannot answer, or does not come back: a refusal goes out in the answer's place.
  #abandonAnswer(reason) {
    const generation = this.#answering;
    const outcome = this.#outcome;
    this.#resolveAnswer();
    this.#emit("SendHangUp", { reason: "declined" });
    if (outcome === Outcome.ACCEPTED) {
      this.#endCall(reason);
    } else {
      this.#emit("Close", { generation });
    }
  }

  // Let go of the call's connection. One that is being answered closes itself when it is.
  #releaseConnection() {
    if (this.#current !== null && this.#current !== this.#answering) this.#emit("Close", { generation: this.#current });
    this.#current = null;
    this.#fragments = new Set();
    this.#localCandidates = [];
    this.#absenceDeadline = null;
    this.#silent = false;
  }

  #endCall(reason) {
    this.#releaseConnection();
    this.phase = Phase.IDLE;
    this.#callDeadline = null;
    this.#emit("CallEnded", { reason });
  }
}
