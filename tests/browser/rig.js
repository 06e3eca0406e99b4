// Injected by rig.py into each page, before the page's own scripts.

globalThis.rig = {
  captures: 0, // calls of getUserMedia

  // A camera with a flat color and a microphone with a tone, which identify them at the remote; or no devices.
  camera(kind, [r, g, b], tone) {
    if (!navigator.mediaDevices) return; // about:blank
    const none = () => Promise.reject(new DOMException("Requested device not found", "NotFoundError"));
    const asked = new Promise((resolve) => (rig.allow = resolve));
    const own = async ({ audio, video }) => {
      const stream = new MediaStream();
      if (video) {
        const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 180 });
        const paint = canvas.getContext("2d");
        let step = 0;
        setInterval(() => {
          paint.fillStyle = `rgb(${r} ${g} ${b})`;
          paint.fillRect(0, 0, 320, 180);
          paint.fillStyle = "white";
          paint.fillRect((step++ * 4) % 320, 80, 16, 16);
        }, 66);
        stream.addTrack(canvas.captureStream(15).getVideoTracks()[0]);
      }
      if (audio) {
        const context = new AudioContext();
        const oscillator = new OscillatorNode(context, { frequency: tone });
        const destination = context.createMediaStreamDestination();
        oscillator.connect(new GainNode(context, { gain: 0.3 })).connect(destination);
        oscillator.start();
        stream.addTrack(destination.stream.getAudioTracks()[0]);
      }
      return stream;
    };
    const kinds = { own, none, asked: (constraints) => asked.then(() => own(constraints)) };
    const use = (kind) =>
      (navigator.mediaDevices.getUserMedia = (constraints) => {
        rig.captures++;
        return kinds[kind](constraints);
      });
    use(kind);
    rig.unplug = () => {
      use("none");
      for (const track of rig.find("#me video").srcObject.getTracks()) {
        track.stop();
        track.dispatchEvent(new Event("ended")); // stop() fires no event, but unplugging does
      }
    };
    rig.plug = () => {
      use("own");
      navigator.mediaDevices.dispatchEvent(new Event("devicechange"));
    };
  },

  // Connects to `to` instead of `from`: for a page with a hard-coded server.
  dial(from, to) {
    const Real = WebSocket;
    globalThis.WebSocket = class extends Real {
      constructor(url, ...rest) {
        super(url === from ? to : url, ...rest);
      }
    };
  },

  // Makes the first `Math.random().toString(36).substr(2, 9)` return `id`. Nothing else calls substr.
  dice(id) {
    const real = String.prototype.substr;
    String.prototype.substr = function (...range) {
      String.prototype.substr = real;
      return id;
    };
  },

  connected: {}, // by peer: whether its call is connected
  ended: {}, // by peer: when its last connected call ended (Date.now())

  noteStates() {
    const rows = Array.from(document.querySelectorAll("#peers tr"), (row) => [row.dataset.peer, row.dataset.state]);
    const states = Object.fromEntries(rows);
    for (const peer of new Set([...Object.keys(rig.connected), ...Object.keys(states)])) {
      const connected = states[peer] === "connected";
      if (rig.connected[peer] && !connected) rig.ended[peer] = Date.now();
      rig.connected[peer] = connected;
    }
  },

  find(selector) {
    if (!selector.startsWith("xpath=")) return document.querySelector(selector);
    const { FIRST_ORDERED_NODE_TYPE } = XPathResult;
    return document.evaluate(selector.slice(6), document, null, FIRST_ORDERED_NODE_TYPE, null).singleNodeValue;
  },

  click(selector) {
    const button = rig.find(selector);
    button?.click();
    return Boolean(button);
  },

  video(selector) {
    const video = rig.find(selector);
    if (!video || !video.videoWidth) return null;
    const [columns, rows] = [5, 3];
    const canvas = new OffscreenCanvas(columns * 8, rows * 8);
    const paint = canvas.getContext("2d", { willReadFrequently: true });
    paint.drawImage(video, 0, 0, canvas.width, canvas.height);
    const samples = [];
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        const [r, g, b] = paint.getImageData(x * 8 + 4, y * 8 + 4, 1, 1).data;
        samples.push([r, g, b]);
      }
    }
    const frames = video.getVideoPlaybackQuality().totalVideoFrames;
    return { width: video.videoWidth, height: video.videoHeight, frames, samples };
  },

  async sound(selector, seconds) {
    const stream = rig.find(selector)?.srcObject;
    if (!stream?.getAudioTracks().length) return { level: -Infinity, frequency: 0 };
    const context = new AudioContext();
    const analyser = rig.analyser(context);
    context.createMediaStreamSource(stream).connect(analyser);
    const loudest = await rig.loudest(analyser, seconds);
    await context.close();
    return loudest;
  },

  analyser: (context) => new AnalyserNode(context, { fftSize: 4096, smoothingTimeConstant: 0 }),

  speaker: null, // what the page last connected to its loudspeaker

  played(seconds) {
    // An analyser of a closed context returns its last samples forever.
    const playing = rig.speaker && rig.speaker.context.state !== "closed";
    return playing ? rig.loudest(rig.speaker, seconds) : { level: -200, frequency: 0 };
  },

  async loudest(analyser, seconds) {
    const wave = new Float32Array(analyser.fftSize);
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    let best = { level: -Infinity, frequency: 0 };
    for (const end = performance.now() + seconds * 1000; performance.now() < end; ) {
      await new Promise((resolve) => setTimeout(resolve, 50));
      analyser.getFloatTimeDomainData(wave);
      const level = 10 * Math.log10(wave.reduce((sum, sample) => sum + sample * sample, 0) / wave.length);
      if (level <= best.level) continue;
      analyser.getFloatFrequencyData(spectrum);
      const frequency = (spectrum.indexOf(Math.max(...spectrum)) * analyser.context.sampleRate) / analyser.fftSize;
      best = { level, frequency };
    }
    return Number.isFinite(best.level) ? best : { level: -200, frequency: 0 };
  },
};

new MutationObserver(rig.noteStates).observe(document, { subtree: true, childList: true, attributes: true });

const connect = AudioNode.prototype.connect;
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode) connect.call(this, (rig.speaker = rig.analyser(this.context)));
  return connect.call(this, target, ...rest);
};
