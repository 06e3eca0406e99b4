// The WebSocket to the relay: joins, sends, receives, and comes back by itself.
//
// onState(state, detail): "connecting" · "online" · "offline" (trying again) · "refused" (not trying). `detail` is
// the relay's error code, or "replaced". onMessage(message): every parsed frame from `peer-list` on.

const BACKOFF = { first: 500, quick: 1_500, most: 10_000 }; // ms; jittered, so that a restarted relay is not stormed
// A refused connection and one that nobody answers look alike to a page, but the first fails at once: a host that
// does is asked every `quick` ms for `patience` ms (docs/decisions/0011). Chromium delays a page's WebSockets by up to
// 5 s after some twenty failures, and that is in what we measure.
const REFUSED = { within: 6_000, patience: 300_000 }; // ms
const JOIN_DEADLINE = 10_000; // ms from dialing to `peer-list`
const OUTBOX = { most: 64, age: 10_000 }; // frames, ms: what waits for the relay to come back
const CLOSE = { REPLACED: 4001, BAD_JOIN: 4400, UNAUTHORIZED: 4401, RATE_LIMITED: 4429 };
const FOR_NOW = ["room-full", "rate-limited"]; // errors that may be over the next time, whatever the close code

export class Signaling {
  #url;
  #join;
  #socket = null;
  #online = false;
  #failures = 0;
  #dialled = 0; // when, by performance.now()
  #awaySince = null; // the same
  #timer = null;
  #code = null; // of the last `error` before the join: the reason for the close that follows
  #outbox = []; // { message, time }
  #stopped = true; // until connect(): nothing else may be the first to dial

  // `join()` makes the first frame, anew for each connection.
  constructor(url, { join, onState, onMessage }) {
    this.#url = url;
    this.#join = join;
    this.onState = onState;
    this.onMessage = onMessage;
  }

  connect() {
    this.#stopped = false;
    clearTimeout(this.#timer);
    this.#code = null;
    this.onState("connecting");
    this.#dialled = performance.now();
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#lost(socket, 1006), JOIN_DEADLINE);
    socket.onopen = () => socket.send(JSON.stringify(this.#join()));
    socket.onmessage = ({ data }) => this.#socket === socket && this.#receive(data);
    socket.onclose = ({ code }) => this.#lost(socket, code);
  }

  // Now rather than when the backoff says: the network is back, or somebody looks at the page again.
  hurry() {
    if (!this.#socket && !this.#stopped) this.connect();
  }

  // Frames keep their order. Without a connection they wait for it, but not for long.
  send(message) {
    if (this.#online) {
      this.#socket.send(JSON.stringify(message));
    } else {
      this.#outbox = [...this.#outbox, { message, time: Date.now() }].slice(-OUTBOX.most);
    }
  }

  leave() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#online = false;
    this.#socket?.close(1000);
    this.#socket = null;
  }

  #receive(data) {
    let message;
    try {
      message = JSON.parse(data);
    } catch {
      return; // not ours to answer
    }
    if (message === null || typeof message !== "object") return;
    if (!this.#online) {
      if (message.type === "error") this.#code = message.code;
      if (message.type !== "peer-list") return;
      this.#welcome(message);
      return;
    }
    this.onMessage(message);
  }

  #welcome(list) {
    clearTimeout(this.#timer);
    this.#online = true;
    this.#failures = 0;
    this.#awaySince = null;
    this.onState("online");
    this.onMessage(list); // first who is here: it may end calls, and with them what we had to say
    const waiting = this.#outbox;
    this.#outbox = [];
    const present = new Set(Array.isArray(list.peers) ? list.peers : []);
    for (const { message, time } of waiting) {
      if (present.has(message.to) && Date.now() - time < OUTBOX.age) this.send(message);
    }
  }

  #lost(socket, code) {
    if (this.#socket !== socket) return;
    clearTimeout(this.#timer);
    const now = performance.now();
    const answered = this.#online || now - this.#dialled < REFUSED.within;
    this.#socket = null;
    this.#online = false;
    socket.onclose = null;
    socket.close();
    if (code === CLOSE.RATE_LIMITED) this.#code ??= "rate-limited";
    const later = FOR_NOW.includes(this.#code); // the relay is there and wants us later
    if (!later && [CLOSE.REPLACED, CLOSE.BAD_JOIN, CLOSE.UNAUTHORIZED].includes(code)) {
      this.#stopped = true;
      this.onState("refused", code === CLOSE.REPLACED ? "replaced" : (this.#code ?? "unauthorized"));
      return;
    }
    this.#awaySince ??= now;
    const quick = !later && answered && code === 1006 && now - this.#awaySince < REFUSED.patience;
    const least = later ? BACKOFF.most / 2 : BACKOFF.first;
    const doubled = later ? BACKOFF.most : Math.min(BACKOFF.most, BACKOFF.first * 2 ** ++this.#failures);
    const most = quick ? BACKOFF.quick : doubled;
    this.#timer = setTimeout(() => this.connect(), least + Math.random() * (most - least));
    this.onState("offline", this.#code);
  }
}
