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
const MAX_WAITING = 64;

// Seconds that a peer whose media flows may be out of the room, while it reconnects to a relay that restarts.
const LEFT_GRACE = 20;

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
const Fate = Object.freeze({ LIVE: "live", DROPPED: "dropped", HUNG_UP: "hung-up", DECLINED: "declined" });

// A hang-up that nobody meant is not told as one: who noticed first must not make the other think it was wanted.
const FAULTS = Object.freeze({
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
  #fate = Fate.LIVE; // of the offer that is being answered
  #offers = []; // theirs, in line behind it: { sdp, fate }
  #fragments = new Set(); // of the remote description in force
  #early = []; // their candidates, before their description
  #held = []; // our candidates, before our description is sent
  #leftDeadline = null; // the peer left the room; by then it must be back
  #silent = false;
  #out = [];

  constructor(me, remote, timeout = 15) {
    if (me === remote) throw new Error("a peer does not call itself");
    this.me = me;
    this.remote = remote;
    this.phase = Phase.IDLE;
    this.#timeout = timeout;
  }

  // When `handle({ type: "Tick" }, now)` is due; null while nothing is.
  get deadline() {
    const deadlines = [this.#callDeadline, this.#offerDeadline, this.#answerDeadline, this.#leftDeadline];
    const due = deadlines.filter((time) => time !== null);
    return due.length ? Math.min(...due) : null;
  }

  // Whether nothing is owed to or awaited from the other side: this object may be forgotten.
  get settled() {
    return this.phase === Phase.IDLE && this.#unanswered === null && this.#answering === null;
  }

  handle(event, now) {
    this.#out = [];
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
        this.#leftDeadline = null;
        break;
      case "Tick":
        this.#tick(now);
        break;
      default:
        throw new Error(`no such event: ${event.type}`);
    }
    this.#goOn(now);
    const out = this.#out;
    this.#out = [];
    return out;
  }

  // --- the user ---

  #dial(deadline) {
    if (this.phase !== Phase.IDLE) return;
    this.#do("CallStarted", { incoming: false });
    this.phase = Phase.WAITING; // #goOn makes the offer when nothing stands in its way
    this.#callDeadline = deadline;
  }

  #hangUp(reason) {
    if (this.phase === Phase.IDLE) return;
    if (this.phase === Phase.ANSWERING) {
      this.#markLiveOffers(Fate.HUNG_UP); // rule 4: answer, then hang up
    } else if (this.phase !== Phase.WAITING && this.phase !== Phase.OFFERING) {
      this.#do("SendHangUp", { reason }); // before that the other side knows nothing of it
    }
    this.#end(reason);
  }

  // --- the other side ---

  #offerReceived(sdp, allowed, now) {
    if (this.#unanswered !== null) {
      // rule 2: glare
      if (this.me < this.remote) return; // ours stands, even abandoned: the other side drops its own and answers ours
      this.#resolveOffer(); // theirs stands; ours will never be answered
    }
    if (this.#offers.length >= MAX_WAITING) return; // a flood; nobody with an honest deadline comes this far
    if (!allowed && !DIALING.has(this.phase)) {
      this.#offers.push({ sdp, fate: Fate.DECLINED });
      return;
    }
    if (this.phase === Phase.CONNECTED) this.#end("replaced"); // rule 3
    if (this.phase === Phase.IDLE) {
      this.#do("CallStarted", { incoming: true });
      this.#callDeadline = now + this.#timeout;
    }
    this.#markLiveOffers(Fate.DROPPED); // the newer one stands
    this.#release();
    this.phase = Phase.ANSWERING;
    this.#offers.push({ sdp, fate: Fate.LIVE });
  }

  #answerReceived(sdp) {
    if (this.#unanswered === null) return; // of an offer that timed out
    const answered = this.#unanswered;
    this.#resolveOffer();
    if (answered !== this.#current) {
      this.#do("SendHangUp", { reason: "hang-up" }); // of an offer that we gave up: said again, in case it was lost
      return;
    }
    this.phase = Phase.CONNECTING;
    this.#do("ApplyAnswer", { generation: answered, sdp });
    this.#describe(sdp);
  }

  #candidateReceived(candidate) {
    // The end of candidates is of no use: a late candidate would be lost after it, and rule 5 ends what fails.
    if (!candidate || !candidate.candidate) return;
    const fragment = fragmentOf(candidate);
    const known = this.#fragments.size > 0 && (fragment === null || this.#fragments.has(fragment));
    if (this.#current !== null && known) {
      this.#do("AddCandidate", { generation: this.#current, candidate });
    } else {
      this.#early = [...this.#early, candidate].slice(-MAX_WAITING);
    }
  }

  #hangUpReceived(reason) {
    if (reason === "declined" && this.#unanswered !== null) {
      const declined = this.#unanswered;
      this.#resolveOffer();
      if (declined === this.#current) this.#end("declined");
    } else if (this.phase === Phase.ANSWERING) {
      this.#markLiveOffers(Fate.DROPPED);
      this.#end(FAULTS[reason] ?? "remote-hang-up");
    } else if (this.phase === Phase.CONNECTING || this.phase === Phase.CONNECTED) {
      this.#end(FAULTS[reason] ?? "remote-hang-up");
    } // else it speaks of an older call
  }

  #peerGone(now) {
    this.#resolveOffer();
    this.#offers = [];
    this.#early = [];
    if (this.#answering !== null) {
      if (this.#answering !== this.#current) this.#do("Close", { generation: this.#answering });
      this.#resolveAnswer();
    }
    if (this.phase === Phase.CONNECTED && !this.#silent) {
      this.#leftDeadline ??= now + LEFT_GRACE; // rule 7
    } else if (this.phase !== Phase.IDLE) {
      this.#end("peer-left");
    }
  }

  // --- the engine ---

  #offerCreated(generation, sdp) {
    if (generation !== this.#current || this.phase !== Phase.OFFERING) return;
    this.phase = Phase.OFFERED;
    this.#unanswered = generation;
    this.#offerDeadline = this.#callDeadline;
    this.#do("SendOffer", { sdp });
    this.#sendHeld();
  }

  #answerCreated(generation, sdp) {
    if (generation !== this.#answering) return;
    const fate = this.#fate;
    this.#resolveAnswer();
    this.#do("SendAnswer", { sdp });
    if (fate === Fate.LIVE) {
      this.phase = Phase.CONNECTING;
      this.#sendHeld();
      return;
    }
    if (fate === Fate.HUNG_UP) this.#do("SendHangUp", { reason: "hang-up" });
    this.#do("Close", { generation });
  }

  #descriptionFailed(generation) {
    if (generation === this.#answering) {
      this.#giveUpAnswer("media-error");
    } else if (generation === this.#current) {
      if (this.phase !== Phase.OFFERING) this.#do("SendHangUp", { reason: "media-error" });
      this.#end("media-error");
    }
  }

  #localCandidate(generation, candidate) {
    if (generation !== this.#current) return;
    if (this.phase === Phase.OFFERING || this.phase === Phase.ANSWERING) {
      this.#held = [...this.#held, candidate].slice(-MAX_WAITING);
    } else {
      this.#do("SendCandidate", { candidate });
    }
  }

  #transportConnected(generation) {
    if (generation !== this.#current || this.phase !== Phase.CONNECTING) return;
    this.phase = Phase.CONNECTED;
    this.#callDeadline = null;
    this.#do("CallConnected", { generation });
  }

  #transportClosed(generation, reason) {
    if (generation !== this.#current) return;
    if (this.phase !== Phase.CONNECTING && this.phase !== Phase.CONNECTED) return;
    this.#do("SendHangUp", { reason });
    this.#end(reason);
  }

  #mediaSilent(generation) {
    if (generation !== this.#current || this.phase !== Phase.CONNECTED) return;
    this.#silent = true;
    if (this.#leftDeadline !== null) this.#end("peer-left");
  }

  // --- time ---

  #tick(now) {
    if (this.#answerDeadline !== null && now >= this.#answerDeadline) this.#giveUpAnswer("timeout");
    if (this.#offerDeadline !== null && now >= this.#offerDeadline) {
      const timedOut = this.#unanswered;
      this.#resolveOffer();
      if (timedOut === this.#current) {
        this.#do("SendHangUp", { reason: "no-answer" });
        this.#end("no-answer");
      }
    }
    if (this.#leftDeadline !== null && now >= this.#leftDeadline) this.#end("peer-left");
    if (this.#callDeadline !== null && now >= this.#callDeadline) {
      this.#hangUp(this.phase === Phase.WAITING ? "no-answer" : "timeout");
    }
  }

  // --- the parts of the law ---

  #do(type, fields) {
    this.#out.push({ type, ...fields });
  }

  // Take up what rule 4 held back: the next offer in line, then our own.
  #goOn(now) {
    while (this.#offers.length && this.#answering === null) {
      const { sdp, fate } = this.#offers.shift();
      if (fate === Fate.DECLINED) {
        this.#do("SendHangUp", { reason: "declined" });
        continue;
      }
      this.#generation += 1;
      this.#answering = this.#generation;
      this.#answerDeadline = now + this.#timeout;
      this.#fate = fate;
      this.#do("CreateAnswer", { generation: this.#generation, sdp });
      if (fate === Fate.LIVE) {
        this.#current = this.#generation;
        this.#describe(sdp);
      }
    }
    if (this.phase === Phase.WAITING && this.#unanswered === null && this.#answering === null) {
      this.#generation += 1;
      this.#current = this.#generation;
      this.phase = Phase.OFFERING;
      this.#do("CreateOffer", { generation: this.#generation });
    }
  }

  // A remote description is in force: its candidates need not wait any more, others' are dropped.
  #describe(sdp) {
    this.#fragments = fragmentsOf(sdp);
    for (const candidate of this.#early) {
      const fragment = fragmentOf(candidate);
      if (fragment === null || this.#fragments.has(fragment)) {
        this.#do("AddCandidate", { generation: this.#current, candidate });
      }
    }
    this.#early = [];
  }

  #sendHeld() {
    for (const candidate of this.#held) this.#do("SendCandidate", { candidate });
    this.#held = [];
  }

  #markLiveOffers(fate) {
    if (this.#answering !== null && this.#fate === Fate.LIVE) this.#fate = fate;
    this.#offers = this.#offers.map((offer) => (offer.fate === Fate.LIVE ? { ...offer, fate } : offer));
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
  #giveUpAnswer(reason) {
    const generation = this.#answering;
    const fate = this.#fate;
    this.#resolveAnswer();
    this.#do("SendHangUp", { reason: "declined" });
    if (fate === Fate.LIVE) {
      this.#end(reason);
    } else {
      this.#do("Close", { generation });
    }
  }

  // Let go of the call's connection. One that is being answered closes itself when it is.
  #release() {
    if (this.#current !== null && this.#current !== this.#answering) this.#do("Close", { generation: this.#current });
    this.#current = null;
    this.#fragments = new Set();
    this.#held = [];
    this.#leftDeadline = null;
    this.#silent = false;
  }

  #end(reason) {
    this.#release();
    this.phase = Phase.IDLE;
    this.#callDeadline = null;
    this.#do("CallEnded", { reason });
  }
}
