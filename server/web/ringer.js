// The ringing sound of incoming calls, made with Web Audio: no file to load.

// Two sine waves, in Hz: the ringing tone of North American telephones, easy to recognize and heard well by small
// loudspeakers.
const FREQUENCIES = [440, 480];

// Peak amplitude per sine wave; both together stay at half of full scale.
const GAIN = 0.25;

// Length of a tone, and of a tone and its pause, in seconds. The pause is shorter than the telephone's 4 s, because
// programs give up calling after 15 s.
const ON = 1;
const PERIOD = 3;

// Seconds that are scheduled in advance. Longer than RING_TIMEOUT in calls.js, so that no timer is needed.
const SCHEDULED = 120;

// Length of the fade at both ends of a tone, in seconds. Without it, the loudspeaker clicks.
const FADE = 0.02;

export class Ringer {
  #context = null;

  constructor() {
    // Browsers keep the sound of a page suspended until the user has touched it.
    for (const type of ["click", "keydown"]) {
      addEventListener(type, () => this.#context?.resume(), { capture: true });
    }
  }

  // Start or stop ringing. Repeating the same state has no effect.
  ring(ringing) {
    if (ringing === (this.#context !== null)) return;
    if (ringing) {
      this.#context = start();
    } else {
      this.#context.close();
      this.#context = null;
    }
  }
}

function start() {
  const context = new AudioContext();
  const volume = new GainNode(context, { gain: 0 });
  volume.connect(context.destination);
  for (let time = 0; time < SCHEDULED; time += PERIOD) {
    volume.gain.setValueAtTime(0, time);
    volume.gain.linearRampToValueAtTime(GAIN, time + FADE);
    volume.gain.setValueAtTime(GAIN, time + ON - FADE);
    volume.gain.linearRampToValueAtTime(0, time + ON);
  }
  for (const frequency of FREQUENCIES) {
    const oscillator = new OscillatorNode(context, { frequency });
    oscillator.connect(volume);
    oscillator.start();
  }
  return context;
}
