// The WebSocket to the relay: joins, sends, receives, and reconnects by itself.
//
// onState(state, error): "connecting" · "online" · "offline" (will retry) · "refused" (will not retry). `error` is
// { code, text }, with the relay's error code, or "replaced", and its error message; or null.
// onMessage(message): every parsed message, beginning with `peer-list`.

// Delay before a retry, in ms: from `first`, doubled up to `max`. With jitter, so that clients do not all return to a
// restarted relay at the same moment.
const BACKOFF = { first: 500, fast: 1_500, max: 10_000 };

// Browsers do not report whether a connection was refused or timed out, but a refused one fails sooner. After a failure
// within `within` ms, retries follow at most `BACKOFF.fast` ms apart for `duration` ms (docs/decisions/0011). `within`
// includes up to 5 s by which Chromium delays a page's WebSockets after some twenty failures.
const REFUSED = { within: 6_000, duration: 300_000 };

// Maximum time from connecting to `peer-list`, in ms.
const JOIN_TIMEOUT = 10_000;

// Messages that wait for the relay to return: maximum number, and maximum age in ms.
const QUEUE = { max: 64, age: 10_000 };

const CLOSE = { REPLACED: 4001, BAD_JOIN: 4400, UNAUTHORIZED: 4401, RATE_LIMITED: 4429 };

// Errors after which a later attempt can succeed, whatever the close code.
const TEMPORARY = ["room-full", "rate-limited"];

export class Signaling {
  #url;
  #join;
  #socket = null;
  #online = false;
  #failures = 0;
  #connectStarted = 0; // performance.now()
  #offlineSince = null; // performance.now()
  #timer = null;
  #error = null; // the last `error` before the join: the reason for the close that follows
  #queue = []; // { message, time }
  #stopped = true; // until connect(): reconnectNow() must not be the first to connect

  // `join()` returns the first message of each connection.
  constructor(url, { join, onState, onMessage }) {
    this.#url = url;
    this.#join = join;
    this.onState = onState;
    this.onMessage = onMessage;
  }

  connect() {
    this.#stopped = false;
    clearTimeout(this.#timer);
    this.#error = null;
    this.onState("connecting", null);
    this.#connectStarted = performance.now();
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#timer = setTimeout(() => this.#closed(socket, 1006), JOIN_TIMEOUT);
    socket.onopen = () => socket.send(JSON.stringify(this.#join()));
    socket.onmessage = ({ data }) => this.#socket === socket && this.#receive(data);
    socket.onclose = ({ code }) => this.#closed(socket, code);
  }

  // Retry without waiting for the backoff: the network is back, or the page has become visible.
  reconnectNow() {
    if (!this.#socket && !this.#stopped) this.connect();
  }

  // Messages keep their order. Without a connection they are queued for a short time.
  send(message) {
    if (this.#online) {
      this.#socket.send(JSON.stringify(message));
    } else {
      this.#queue = [...this.#queue, { message, time: Date.now() }].slice(-QUEUE.max);
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
      return; // ignored, as all that is not a message
    }
    if (message === null || typeof message !== "object") return;
    if (this.#online) return this.onMessage(message);
    if (message.type === "error") this.#error = readError(message);
    if (message.type === "peer-list") this.#joined(message);
  }

  #joined(list) {
    clearTimeout(this.#timer);
    this.#online = true;
    this.#failures = 0;
    this.#offlineSince = null;
    this.onState("online", null);
    this.onMessage(list); // before the queue: calls with peers that have left end first
    const queued = this.#queue;
    this.#queue = [];
    const present = new Set(Array.isArray(list.peers) ? list.peers : []);
    for (const { message, time } of queued) {
      const endsOneCall = message.type === "hang-up" && message.call; // cannot end another one, however late (rule 0 h)
      if (present.has(message.to) && (endsOneCall || Date.now() - time < QUEUE.age)) this.send(message);
    }
  }

  #closed(socket, code) {
    if (this.#socket !== socket) return;
    clearTimeout(this.#timer);
    const now = performance.now();
    const responded = this.#online || now - this.#connectStarted < REFUSED.within;
    this.#socket = null;
    this.#online = false;
    socket.onclose = null;
    socket.close();
    if (code === CLOSE.RATE_LIMITED) this.#error ??= { code: "rate-limited" };
    const temporary = TEMPORARY.includes(this.#error?.code);
    if (!temporary && [CLOSE.REPLACED, CLOSE.BAD_JOIN, CLOSE.UNAUTHORIZED].includes(code)) {
      this.#stopped = true;
      if (code === CLOSE.REPLACED) this.#error = { code: "replaced" };
      this.onState("refused", this.#error ?? { code: "unauthorized" });
      return;
    }
    this.#offlineSince ??= now;
    const fast = !temporary && responded && code === 1006 && now - this.#offlineSince < REFUSED.duration;
    const min = temporary ? BACKOFF.max / 2 : BACKOFF.first;
    const doubled = temporary ? BACKOFF.max : Math.min(BACKOFF.max, BACKOFF.first * 2 ** ++this.#failures);
    const max = fast ? BACKOFF.fast : doubled;
    this.#timer = setTimeout(() => this.connect(), min + Math.random() * (max - min));
    this.onState("offline", this.#error);
  }
}

function readError({ code, message }) {
  return { code: String(code), ...(typeof message === "string" && message && { text: message }) };
}
