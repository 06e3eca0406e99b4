// One RTCPeerConnection: creates one offer, or answers one, and answers further offers that keep it. Never reused.
//
// Reports to `emit(event)` with the events of negotiation.js, without the generation; nothing after close().

// Number of samples, one per second, without a packet or an ICE consent reply, after which the remote is silent.
// Chromium checks consent every 2.5 s.
const SILENT_SAMPLES = 4;

export class Connection {
  #pc = null;
  #iceServers;
  #media;
  #emit;
  #closed = false;
  #traffic = { count: -1, silentSamples: 0 };
  #lastSample = null; // { time, frames }

  constructor(iceServers, media, emit) {
    this.#iceServers = iceServers;
    this.#media = media;
    this.#emit = (event) => this.#closed || emit(event);
    this.stream = new MediaStream();
    this.silent = false;
  }

  async createOffer() {
    await this.#negotiate(async (pc) => {
      for (const kind of ["audio", "video"]) {
        const direction = this.#media.sends(kind) ? "sendrecv" : "recvonly";
        pc.addTransceiver(this.#media.track(kind) ?? kind, { direction, streams: [this.#media.stream] });
      }
      await pc.setLocalDescription();
      this.#emit({ type: "OfferCreated", sdp: pc.localDescription.sdp });
    });
  }

  // Answer an offer: the first one, or one that changes this connection. ICE restarts and hold are up to the browser.
  async createAnswer(sdp) {
    await this.#negotiate(async (pc) => {
      await pc.setRemoteDescription({ type: "offer", sdp });
      const kinds = new Set();
      for (const transceiver of pc.getTransceivers()) {
        const { kind } = transceiver.receiver.track;
        if (transceiver.direction === "stopped" || transceiver.currentDirection === "stopped") continue;
        if (kinds.has(kind) || !this.#media.sends(kind)) continue; // one camera: a second section stays receive-only
        kinds.add(kind);
        transceiver.direction = "sendrecv";
        transceiver.sender.setStreams(this.#media.stream);
        await transceiver.sender.replaceTrack(this.#media.track(kind));
      }
      await pc.setLocalDescription();
      this.#emit({ type: "AnswerCreated", sdp: pc.localDescription.sdp });
    });
    this.#watchTransport();
  }

  async applyAnswer(sdp) {
    await this.#negotiate((pc) => pc.setRemoteDescription({ type: "answer", sdp }));
    this.#watchTransport();
  }

  addCandidate(candidate) {
    this.#pc?.addIceCandidate(candidate).catch(() => {}); // the other candidates are still checked
  }

  // Local tracks were added or removed: send them where sending was negotiated.
  async updateTracks() {
    for (const { sender, direction, receiver } of this.#pc?.getTransceivers() ?? []) {
      const track = this.#media.track(receiver.track.kind);
      if (direction !== "recvonly" && direction !== "inactive" && sender.track !== track && !this.#closed) {
        await sender.replaceTrack(track);
      }
    }
  }

  // Called once per second while connected. Returns { width, height, fps, rttMs } and detects silence.
  async sample() {
    const reports = [...(await this.#pc.getStats()).values()];
    const video = reports.find((report) => report.type === "inbound-rtp" && report.kind === "video");
    const transport = reports.find((report) => report.type === "transport");
    const pair = reports.find((report) => report.id === transport?.selectedCandidatePairId);
    // Firefox counts neither packets nor responses.
    if (pair) this.#detectSilence((transport.packetsReceived ?? 0) + (pair.responsesReceived ?? 0));
    const now = { time: performance.now(), frames: video?.framesDecoded ?? 0 };
    const before = this.#lastSample ?? now;
    this.#lastSample = now;
    return {
      width: video?.frameWidth ?? 0,
      height: video?.frameHeight ?? 0,
      fps: Math.round(((now.frames - before.frames) * 1000) / (now.time - before.time || 1000)),
      rttMs: pair?.currentRoundTripTime === undefined ? null : Math.round(pair.currentRoundTripTime * 1000),
    };
  }

  close() {
    this.#closed = true;
    this.#pc?.close();
  }

  // Throws if the ICE servers are invalid, or if there are hundreds of connections.
  #open() {
    const pc = new RTCPeerConnection({ iceServers: this.#iceServers, bundlePolicy: "max-bundle" });
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.#emit({ type: "LocalCandidate", candidate: candidate.toJSON() });
    };
    pc.ontrack = ({ track }) => this.stream.addTrack(track);
    pc.onconnectionstatechange = () => this.#stateChanged(pc.connectionState);
    return pc;
  }

  async #negotiate(work) {
    try {
      this.#pc ??= this.#open();
      await work(this.#pc);
    } catch (error) {
      if (!this.#closed) console.warn("description failed:", error.message);
      await null; // emit must not run before the caller has returned
      this.#emit({ type: "DescriptionFailed", detail: error.message });
    }
  }

  #stateChanged(state) {
    if (state === "connected") this.#emit({ type: "TransportConnected" });
    if (state === "connected" || state === "disconnected") this.#setSilent(state === "disconnected");
    if (state === "failed") this.#emit({ type: "TransportClosed", reason: "transport-failed" });
  }

  // A remote that closes its connection sends a DTLS close_notify; connectionState would report it only 6 s later.
  #watchTransport() {
    const transport = this.#pc?.getTransceivers()[0]?.sender.transport;
    if (!transport) return;
    transport.onstatechange = () => {
      if (transport.state === "closed") this.#emit({ type: "TransportClosed", reason: "remote-hang-up" });
    };
  }

  #detectSilence(count) {
    this.#traffic.silentSamples = count === this.#traffic.count ? this.#traffic.silentSamples + 1 : 0;
    this.#traffic.count = count;
    if (this.#pc.connectionState === "connected") this.#setSilent(this.#traffic.silentSamples >= SILENT_SAMPLES);
  }

  #setSilent(silent) {
    if (silent === this.silent) return;
    this.silent = silent;
    this.#emit({ type: silent ? "MediaSilent" : "MediaFlowing" });
  }
}
