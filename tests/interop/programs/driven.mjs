// What the counterparts for Node.js share: requests on standard input, replies and events on standard output, one
// JSON object per line, and a UDP socket per connection that takes RTP packets to send. See tests/interop/engines.py.

import { createSocket } from "node:dgram";
import { createInterface } from "node:readline";

export const emit = (event) => process.stdout.write(JSON.stringify(event) + "\n");

// Reads requests until standard input ends. `methods` are called with `params`, one request after the other.
export async function serve(methods) {
  for await (const line of createInterface({ input: process.stdin })) {
    const { id, method, params } = JSON.parse(line);
    try {
      emit({ id, result: (await methods[method](params)) ?? null });
    } catch (error) {
      emit({ id, error: String(error?.stack ?? error) });
    }
  }
  process.exit(0);
}

// RTP of one connection: `send(kind, packet)` is called with each packet to send; `deliver(kind, packet)` hands over
// one that was received.
export class RtpBridge {
  #socket = createSocket("udp4");
  #sinks;
  #closed = false;

  constructor(sinks, send) {
    this.#sinks = sinks;
    this.#socket.on("message", (packet) => send((packet[1] & 0x7f) === 111 ? "audio" : "video", packet));
  }

  async open() {
    await new Promise((done) => this.#socket.bind(0, "127.0.0.1", done));
    return this.#socket.address().port;
  }

  deliver(kind, packet) {
    if (!this.#closed) this.#socket.send(packet, this.#sinks[kind], "127.0.0.1");
  }

  close() {
    this.#closed = true;
    this.#socket.close();
  }
}
