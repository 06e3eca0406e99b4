// A peer connection that a test drives, for Firefox and Chromium. Methods and events: tests/interop/engines.py.
// `emit` is provided by the driver.

globalThis.interop = {
  connections: new Map(),

  create({ connection, sections, rejected }) {
    const pc = new RTCPeerConnection();
    const one = { pc, rejected, media: {}, sent: [] };
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) emit({ event: "candidate", connection, candidate });
    };
    pc.onconnectionstatechange = () => emit({ event: "state", connection, state: pc.connectionState });
    pc.ontrack = ({ track }) => interop.receive(one, track);
    interop.connections.set(connection, one);
    for (const section of sections) interop.add({ connection, section });
  },

  add({ connection, section: { kind, codec, direction } }) {
    const { pc, sent } = interop.connections.get(connection);
    if (kind === "data") {
      pc.createDataChannel("data");
      return;
    }
    // addTransceiver would make a transceiver that no section of a remote offer is associated with (RFC 9429 5.10).
    const { stream, stop } = kind === "video" ? interop.camera() : interop.microphone();
    sent.push(stop);
    const sender = pc.addTrack(stream.getTracks()[0], stream);
    const transceiver = pc.getTransceivers().find((one) => one.sender === sender);
    if (direction) transceiver.direction = direction;
    if (codec) interop.prefer(transceiver, kind, codec);
  },

  prefer(transceiver, kind, codec) {
    const { codecs } = RTCRtpReceiver.getCapabilities(kind);
    transceiver.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === `${kind}/${codec}`));
  },

  async offer({ connection, iceRestart }) {
    const { pc } = interop.connections.get(connection);
    await pc.setLocalDescription(await pc.createOffer({ iceRestart }));
    return { sdp: pc.localDescription.sdp };
  },

  async answer({ connection, sdp }) {
    const { pc, rejected } = interop.connections.get(connection);
    await pc.setRemoteDescription({ type: "offer", sdp });
    // stop() would make the section inactive: it takes effect in the next offer (W3C webrtc-pc 5.4).
    for (const kind of rejected) interop.prefer(interop.transceiver(connection, kind), kind, "VP9");
    await pc.setLocalDescription(await pc.createAnswer());
    return { sdp: pc.localDescription.sdp };
  },

  async accept({ connection, sdp }) {
    await interop.connections.get(connection).pc.setRemoteDescription({ type: "answer", sdp });
  },

  async candidate({ connection, candidate }) {
    await interop.connections.get(connection).pc.addIceCandidate(candidate);
  },

  direction({ connection, kind, direction }) {
    interop.transceiver(connection, kind).direction = direction;
  },

  stop({ connection, kind }) {
    interop.transceiver(connection, kind).stop();
  },

  // What was received: decoded video frames and their size, and the frequency that the speaker plays.
  async received({ connection }) {
    const { pc, media } = interop.connections.get(connection);
    const frequency = media.analyser ? interop.frequency(media.analyser) : 0;
    const result = { frames: 0, width: 0, height: 0, frequency };
    for (const report of (await pc.getStats()).values()) {
      if (report.type !== "inbound-rtp" || report.kind !== "video") continue;
      result.frames = report.framesDecoded ?? 0;
      result.width = report.frameWidth ?? 0;
      result.height = report.frameHeight ?? 0;
    }
    return result;
  },

  // Starts to measure the longest time without a received packet; `gap` returns it in seconds.
  watch({ connection }) {
    const one = interop.connections.get(connection);
    const watched = (one.watched = { packets: 0, at: performance.now(), longest: 0 });
    const look = async () => {
      if (one.watched !== watched) return;
      const reports = [...(await one.pc.getStats()).values()].filter(({ type }) => type === "inbound-rtp");
      const packets = reports.reduce((sum, { packetsReceived }) => sum + packetsReceived, 0);
      const now = performance.now();
      watched.longest = Math.max(watched.longest, now - watched.at);
      if (packets !== watched.packets) Object.assign(watched, { packets, at: now });
      setTimeout(look, 5);
    };
    look();
  },

  gap({ connection }) {
    const one = interop.connections.get(connection);
    const { longest } = one.watched;
    one.watched = null;
    return { gap: longest / 1000 };
  },

  keyframe() {}, // a browser sends its own key frame requests

  close({ connection }) {
    const one = interop.connections.get(connection);
    const { pc, sent, media } = one;
    one.watched = null;
    interop.connections.delete(connection);
    pc.close();
    sent.forEach((stop) => stop());
    media.element?.remove();
    media.context?.close();
  },

  transceiver: (connection, kind) =>
    interop.connections
      .get(connection)
      .pc.getTransceivers()
      .find((one) => one.receiver.track.kind === kind && one.currentDirection !== "stopped"),

  receive(one, track) {
    const stream = new MediaStream([track]);
    if (track.kind === "video") {
      one.media.element = Object.assign(document.createElement("video"), { srcObject: stream, muted: true });
      document.body.append(one.media.element);
      one.media.element.play().catch(() => {}); // interrupted when the connection closes
      return;
    }
    // Chromium decodes a track for Web Audio only if an element plays it too.
    one.media.audio = Object.assign(new Audio(), { srcObject: stream, muted: true });
    one.media.context = new AudioContext();
    one.media.analyser = new AnalyserNode(one.media.context, { fftSize: 8192, smoothingTimeConstant: 0 });
    one.media.context.createMediaStreamSource(stream).connect(one.media.analyser);
  },

  frequency(analyser) {
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(spectrum);
    const loudest = spectrum.indexOf(Math.max(...spectrum));
    return spectrum[loudest] > -80 ? (loudest * analyser.context.sampleRate) / analyser.fftSize : 0;
  },

  // A flat red picture with a moving square, 160x120 at 15 fps.
  camera() {
    const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
    const paint = canvas.getContext("2d");
    let step = 0;
    const timer = setInterval(() => {
      paint.fillStyle = "rgb(200 40 40)";
      paint.fillRect(0, 0, 160, 120);
      paint.fillStyle = "white";
      paint.fillRect((step++ * 4) % 160, 56, 8, 8);
    }, 66);
    return { stream: canvas.captureStream(15), stop: () => clearInterval(timer) };
  },

  // A tone of 600 Hz.
  microphone() {
    const context = new AudioContext();
    const oscillator = new OscillatorNode(context, { frequency: 600 });
    const destination = context.createMediaStreamDestination();
    oscillator.connect(new GainNode(context, { gain: 0.3 })).connect(destination);
    oscillator.start();
    return { stream: destination.stream, stop: () => context.close() };
  },
};
