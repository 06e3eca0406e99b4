// One RTCPeerConnection: makes one description, or answers one, and is closed for good.
//
// Reports to `emit(event)` in the words of negotiation.js, without the generation; after close() nothing.

// Samples (seconds) without a packet or an ICE consent reply; Chromium asks for consent every 2.5 s.
const SILENCE = 4;

export class Connection {
  #pc = null;
  #iceServers;
  #media;
  #emit;
  #closed = false;
  #heard = { count: -1, quiet: 0 };
  #before = null; // the last sample's { time, frames }

  constructor(iceServers, media, emit) {
    this.#iceServers = iceServers;
    this.#media = media;
    this.#emit = (event) => this.#closed || emit(event);
    this.stream = new MediaStream();
    this.silent = false;
  }

  async createOffer() {
    await this.#describing(async (pc) => {
      for (const kind of ["audio", "video"]) {
        const direction = this.#media.sends(kind) ? "sendrecv" : "recvonly";
        pc.addTransceiver(this.#media.track(kind) ?? kind, { direction, streams: [this.#media.stream] });
      }
      await pc.setLocalDescription();
      this.#emit({ type: "OfferCreated", sdp: pc.localDescription.sdp });
    });
  }

  async createAnswer(sdp) {
    await this.#describing(async (pc) => {
      await pc.setRemoteDescription({ type: "offer", sdp });
      const kinds = new Set();
      for (const transceiver of pc.getTransceivers()) {
        const { kind } = transceiver.receiver.track;
        if (kinds.has(kind) || !this.#media.sends(kind)) continue; // one camera: their second line stays one-way
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
    await this.#describing((pc) => pc.setRemoteDescription({ type: "answer", sdp }));
    this.#watchTransport();
  }

  addCandidate(candidate) {
    this.#pc?.addIceCandidate(candidate).catch(() => {}); // one path less; the others are tried
  }

  // Tracks came or went: what was offered to be sent is sent now.
  async retrack() {
    for (const { sender, direction, receiver } of this.#pc?.getTransceivers() ?? []) {
      const track = this.#media.track(receiver.track.kind);
      if (direction !== "recvonly" && direction !== "inactive" && sender.track !== track && !this.#closed) {
        await sender.replaceTrack(track);
      }
    }
  }

  // Once a second while connected: { width, height, fps, rttMs }. Also listens whether anything still comes.
  async sample() {
    const reports = [...(await this.#pc.getStats()).values()];
    const video = reports.find((report) => report.type === "inbound-rtp" && report.kind === "video");
    const transport = reports.find((report) => report.type === "transport");
    const pair = reports.find((report) => report.id === transport?.selectedCandidatePairId);
    if (pair) this.#listen((transport.packetsReceived ?? 0) + (pair.responsesReceived ?? 0)); // Firefox counts neither
    const now = { time: performance.now(), frames: video?.framesDecoded ?? 0 };
    const before = this.#before ?? now;
    this.#before = now;
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

  // Throws for ICE servers that are none, and when there are hundreds of connections.
  #open() {
    const pc = new RTCPeerConnection({ iceServers: this.#iceServers, bundlePolicy: "max-bundle" });
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) this.#emit({ type: "LocalCandidate", candidate: candidate.toJSON() });
    };
    pc.ontrack = ({ track }) => this.stream.addTrack(track);
    pc.onconnectionstatechange = () => this.#stateChanged(pc.connectionState);
    return pc;
  }

  async #describing(work) {
    try {
      this.#pc ??= this.#open();
      await work(this.#pc);
    } catch (error) {
      if (!this.#closed) console.warn("description failed:", error.message);
      await null; // never from within the call that asked for it
      this.#emit({ type: "DescriptionFailed", detail: error.message });
    }
  }

  #stateChanged(state) {
    if (state === "connected") this.#emit({ type: "TransportConnected" });
    if (state === "connected" || state === "disconnected") this.#setSilent(state === "disconnected");
    if (state === "failed") this.#emit({ type: "TransportClosed", reason: "transport-failed" });
  }

  // A peer that closes in good order says so in DTLS; connectionState would tell only 6 s later.
  #watchTransport() {
    const transport = this.#pc?.getTransceivers()[0]?.sender.transport;
    if (!transport) return;
    transport.onstatechange = () => {
      if (transport.state === "closed") this.#emit({ type: "TransportClosed", reason: "remote-hang-up" });
    };
  }

  #listen(count) {
    this.#heard.quiet = count === this.#heard.count ? this.#heard.quiet + 1 : 0;
    this.#heard.count = count;
    if (this.#pc.connectionState === "connected") this.#setSilent(this.#heard.quiet >= SILENCE);
  }

  #setSilent(silent) {
    if (silent === this.silent) return;
    this.silent = silent;
    this.#emit({ type: silent ? "MediaSilent" : "MediaFlowing" });
  }
}
