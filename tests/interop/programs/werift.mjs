// A peer connection of werift that a test drives.

import { MediaStream, MediaStreamTrack, RTCPeerConnection, useH264, useOPUS, useVP8, useVP9 } from "werift";

import { emit, RtpBridge, serve } from "./driven.mjs";

const CODECS = { VP8: useVP8, VP9: useVP9, H264: useH264, opus: useOPUS };
const connections = new Map();

const transceiver = (connection, kind) =>
  connections.get(connection).pc.getTransceivers().find((one) => one.kind === kind && !one.stopped);

const methods = {
  async create({ connection, sections, rejected, sinks }) {
    if (rejected.length) throw new Error("werift cannot reject a section");
    const pc = new RTCPeerConnection({ codecs: { audio: [useOPUS()], video: [useVP8(), useH264()] } });
    const tracks = {};
    const bridge = new RtpBridge(sinks, (kind, packet) => tracks[kind]?.writeRtp(packet));
    connections.set(connection, { pc, tracks, bridge });
    pc.onIceCandidate.subscribe((candidate) => {
      if (candidate?.candidate) emit({ event: "candidate", connection, candidate: candidate.toJSON() });
    });
    pc.connectionStateChange.subscribe((state) => emit({ event: "state", connection, state }));
    const known = new Set(); // onTrack is called for a known track after each further description
    pc.onTrack.subscribe((track) => {
      if (known.has(track)) return;
      known.add(track);
      track.onReceiveRtp.subscribe((packet) => bridge.deliver(track.kind, packet.serialize()));
    });
    for (const section of sections) methods.add({ connection, section });
    return { source: await bridge.open() };
  },

  add({ connection, section: { kind, codec, direction } }) {
    const { pc, tracks } = connections.get(connection);
    if (kind === "data") {
      pc.createDataChannel("data");
      return;
    }
    const track = (tracks[kind] = new MediaStreamTrack({ kind }));
    const sender = pc.addTrack(track, new MediaStream([track]));
    const added = pc.getTransceivers().find((one) => one.sender === sender);
    if (direction) added.setDirection(direction);
    if (codec) added.codecs = [CODECS[codec]({ payloadType: 102 })];
  },

  async offer({ connection, iceRestart }) {
    const { pc } = connections.get(connection);
    await pc.setLocalDescription(await pc.createOffer({ iceRestart }));
    return { sdp: pc.localDescription.sdp };
  },

  async answer({ connection, sdp }) {
    const { pc } = connections.get(connection);
    await pc.setRemoteDescription({ type: "offer", sdp });
    await pc.setLocalDescription(await pc.createAnswer());
    return { sdp: pc.localDescription.sdp };
  },

  accept: ({ connection, sdp }) => connections.get(connection).pc.setRemoteDescription({ type: "answer", sdp }),
  candidate: ({ connection, candidate }) => connections.get(connection).pc.addIceCandidate(candidate),
  direction: ({ connection, kind, direction }) => transceiver(connection, kind).setDirection(direction),
  stop: ({ connection, kind }) => transceiver(connection, kind).stop(),

  async keyframe({ connection }) {
    const { receiver } = transceiver(connection, "video");
    for (const track of receiver.tracks) if (track.ssrc) await receiver.sendRtcpPLI(track.ssrc);
  },

  async close({ connection }) {
    const { pc, bridge } = connections.get(connection);
    connections.delete(connection);
    bridge.close();
    await pc.close();
  },
};

await serve(methods);
