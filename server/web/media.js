// Our own camera and microphone. Nobody waits for them: a call may start while the browser still asks for
// permission, and gets the tracks when they come.

const KINDS = ["audio", "video"];

export class LocalMedia {
  #wanted;
  #pending = false;
  #opening = Promise.resolve();
  #enabled = { audio: true, video: true }; // what the user switched on; outlives a device

  // `wanted`: { audio, video }, each a constraint or false. `onChange()`: tracks came or went.
  constructor(wanted, onChange) {
    this.#wanted = wanted;
    this.onChange = onChange;
    this.stream = new MediaStream(); // one for good: its id names our stream in every offer
    this.problem = null; // one line, when we only receive (part of) what was wanted
  }

  track(kind) {
    return this.stream.getTracks().find((track) => track.kind === kind && track.readyState === "live") ?? null;
  }

  // Whether to offer to send: there is a track, or one may still come.
  sends(kind) {
    return this.track(kind) !== null || (this.#pending && Boolean(this.#wanted[kind]));
  }

  setEnabled(kind, enabled) {
    this.#enabled[kind] = enabled;
    const track = this.track(kind);
    if (track) track.enabled = enabled;
  }

  // Get what is wanted and not there. One attempt after the other: a webcam takes its microphone with it when pulled.
  open() {
    this.#opening = this.#opening.then(() => this.#open());
    return this.#opening;
  }

  async #open() {
    const missing = KINDS.filter((kind) => this.#wanted[kind] && !this.track(kind));
    this.#pending = missing.length > 0;
    const error = missing.length ? await this.#capture(missing) : null;
    this.#pending = false;
    this.problem = this.#describe(error);
    this.onChange();
  }

  // Both at once, so that the browser asks once; else each alone: a microphone without a camera is a call.
  async #capture(kinds) {
    if (!navigator.mediaDevices) return "InsecureContext";
    let refusal = null;
    const attempts = kinds.length > 1 ? [kinds, ...kinds.map((kind) => [kind])] : [kinds];
    for (const attempt of attempts) {
      try {
        const constraints = Object.fromEntries(attempt.map((kind) => [kind, this.#wanted[kind]]));
        const captured = await navigator.mediaDevices.getUserMedia(constraints);
        for (const track of captured.getTracks()) this.#adopt(track);
        if (attempt.length > 1) return null;
      } catch (error) {
        refusal = error.name;
        if (error.name === "NotAllowedError") return refusal; // do not ask again and again
      }
    }
    return refusal;
  }

  #adopt(track) {
    for (const old of this.stream.getTracks()) if (old.kind === track.kind) this.stream.removeTrack(old);
    track.enabled = this.#enabled[track.kind];
    this.stream.addTrack(track);
    track.addEventListener("ended", () => {
      this.stream.removeTrack(track); // unplugged, or permission withdrawn
      this.open();
    });
  }

  #describe(error) {
    const missing = KINDS.filter((kind) => !this.track(kind));
    if (missing.length === 0) return null;
    const name = missing.map((kind) => ({ audio: "microphone", video: "camera" })[kind]).join(" or ");
    const nothing = missing.length === KINDS.length;
    const rest = nothing ? "you see and hear others, they do not see or hear you" : "the rest works";
    if (!missing.some((kind) => this.#wanted[kind])) {
      return nothing ? `Receive only: ${rest}.` : null;
    }
    const why = {
      NotAllowedError: `The browser does not let this page use the ${name}`,
      NotReadableError: `The ${name} is in use by another program`,
      InsecureContext: `Browsers give the ${name} only to pages on https or localhost`,
    };
    return `${why[error] ?? `No ${name} found`}: ${rest}.`;
  }
}
