// The local camera and microphone.
//
// Calls do not wait for them: a call can start while the browser still asks for permission. The tracks are added to it
// later.

const KINDS = ["audio", "video"];

export class LocalMedia {
  #constraints;
  #pending = false;
  #opening = Promise.resolve();
  #enabled = { audio: true, video: true }; // the user's choice; it also applies to the next device

  // `constraints`: { audio, video }, each a constraint or false. `onChange()`: tracks were added or removed.
  constructor(constraints, onChange) {
    this.#constraints = constraints;
    this.onChange = onChange;
    this.stream = new MediaStream(); // always the same, because every offer contains its id
    this.problem = null; // a sentence for the user if a requested device is missing
  }

  track(kind) {
    return this.stream.getTracks().find((track) => track.kind === kind && track.readyState === "live") ?? null;
  }

  // Whether to offer to send: there is a track, or the browser is still asking for permission.
  sends(kind) {
    return this.track(kind) !== null || (this.#pending && Boolean(this.#constraints[kind]));
  }

  setEnabled(kind, enabled) {
    this.#enabled[kind] = enabled;
    const track = this.track(kind);
    if (track) track.enabled = enabled;
  }

  // Open the devices that are missing. Attempts run one after the other, because unplugging a webcam removes two.
  open() {
    this.#opening = this.#opening.then(() => this.#open());
    return this.#opening;
  }

  async #open() {
    const missing = KINDS.filter((kind) => this.#constraints[kind] && !this.track(kind));
    this.#pending = missing.length > 0;
    const error = missing.length ? await this.#capture(missing) : null;
    this.#pending = false;
    this.problem = this.#describe(error);
    this.onChange();
  }

  // Request both at once, so that the browser asks once. If that fails, request each alone: one is enough for a call.
  async #capture(kinds) {
    if (!navigator.mediaDevices) return "InsecureContext";
    let refusal = null;
    const attempts = kinds.length > 1 ? [kinds, ...kinds.map((kind) => [kind])] : [kinds];
    for (const attempt of attempts) {
      try {
        const requested = Object.fromEntries(attempt.map((kind) => [kind, this.#constraints[kind]]));
        const captured = await navigator.mediaDevices.getUserMedia(requested);
        for (const track of captured.getTracks()) this.#adopt(track);
        if (attempt.length > 1) return null;
      } catch (error) {
        refusal = error.name;
        if (error.name === "NotAllowedError") return refusal; // do not ask a second time
      }
    }
    return refusal;
  }

  #adopt(track) {
    for (const old of this.stream.getTracks()) if (old.kind === track.kind) this.stream.removeTrack(old);
    track.enabled = this.#enabled[track.kind];
    this.stream.addTrack(track);
    track.addEventListener("ended", () => {
      this.stream.removeTrack(track); // unplugged, or permission revoked
      this.open();
    });
  }

  #describe(error) {
    const missing = KINDS.filter((kind) => !this.track(kind));
    if (missing.length === 0) return null;
    const name = missing.map((kind) => ({ audio: "microphone", video: "camera" })[kind]).join(" or ");
    const nothing = missing.length === KINDS.length;
    const rest = nothing ? "you can see and hear others, but they cannot see or hear you" : "everything else works";
    if (!missing.some((kind) => this.#constraints[kind])) {
      return nothing ? `Receiving only: ${rest}.` : null;
    }
    const why = {
      NotAllowedError: `The browser does not allow this page to use the ${name}`,
      NotReadableError: `The ${name} is in use by another program`,
      InsecureContext: `Browsers allow the ${name} only on pages from https or localhost`,
    };
    return `${why[error] ?? `No ${name} found`}: ${rest}.`;
  }
}
