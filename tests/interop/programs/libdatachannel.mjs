// A peer connection of libdatachannel (npm node-datachannel) that a test drives. It has no transceivers: a section is
// a track with the same mid. It cannot restart ICE.

import { Audio, PeerConnection, RtcpReceivingSession, Video } from "node-datachannel";

import { emit, RtpBridge, serve } from "./driven.mjs";

const SSRC = { audio: 1111, video: 2222 };
const PAYLOAD_TYPE = { audio: 111, VP8: 96, VP9: 98 };
const connections = new Map();

// Adds a track in the section `mid`, or in the one in which its kind and codec were offered.
function addTrack(one, { kind, codec = "VP8", direction = "sendrecv" }, mid, payloadType) {
  const type = payloadType ?? (kind === "audio" ? PAYLOAD_TYPE.audio : PAYLOAD_TYPE[codec]);
  const Section = kind === "audio" ? Audio : Video;
  const section = new Section(mid, { sendrecv: "SendRecv", recvonly: "RecvOnly" }[direction]);
  if (kind === "audio") section.addOpusCodec(type);
  else if (codec === "VP9") section.addVP9Codec(type);
  else section.addVP8Codec(type);
  section.addSSRC(SSRC[kind], "interop", "stream", kind);
  const track = one.pc.addTrack(section);
  receive(one, track, kind);
  one.tracks[kind] = { track, payloadType: type };
}

function receive(one, track, kind) {
  one.receivers[kind] = track;
  track.setMediaHandler(new RtcpReceivingSession());
  track.onMessage((packet) => {
    const type = packet[1] & 0x7f;
    if (type < 64 || type >= 96) one.bridge.deliver(kind, packet); // not RTCP (RFC 5761 4)
  });
}

// The offered sections: [{ kind, mid, payloadType }], with the payload type of VP8 or Opus.
function offered(sdp) {
  return sdp
    .split(/^m=/m)
    .slice(1)
    .map((section) => ({
      kind: section.split(" ", 1)[0],
      mid: /^a=mid:(\S+)/m.exec(section)?.[1],
      payloadType: Number(/^a=rtpmap:(\d+) (?:VP8|opus)\//im.exec(section)?.[1]),
    }));
}

function described(pc, type) {
  const made = new Promise((done) => pc.onLocalDescription((sdp) => done({ sdp })));
  pc.setLocalDescription(type);
  return made;
}

const methods = {
  async create({ connection, sections, rejected, sinks }) {
    const pc = new PeerConnection(connection, { iceServers: [], disableAutoNegotiation: true });
    const bridge = new RtpBridge(sinks, (kind, packet) => {
      const sent = one.tracks[kind];
      if (!sent?.track.isOpen()) return;
      packet[1] = (packet[1] & 0x80) | sent.payloadType;
      packet.writeUInt32BE(SSRC[kind], 8);
      sent.track.sendMessageBinary(packet);
    });
    const one = { pc, bridge, sections, tracks: {}, receivers: {}, mids: 0 };
    connections.set(connection, one);
    if (rejected.length) throw new Error("libdatachannel cannot reject a section");
    pc.onTrack((track) => receive(one, track, track.type()));
    pc.onLocalCandidate((candidate, sdpMid) =>
      emit({ event: "candidate", connection, candidate: { candidate: candidate.replace(/^a=/, ""), sdpMid } }),
    );
    pc.onStateChange((state) => emit({ event: "state", connection, state }));
    return { source: await bridge.open() };
  },

  add({ connection, section }) {
    const one = connections.get(connection);
    if (section.kind === "data") one.pc.createDataChannel("data");
    else addTrack(one, section, String(one.mids++));
  },

  async offer({ connection, iceRestart }) {
    if (iceRestart) throw new Error("libdatachannel cannot restart ICE");
    const one = connections.get(connection);
    for (const section of one.sections.splice(0)) methods.add({ connection, section });
    return described(one.pc, "offer");
  },

  async answer({ connection, sdp }) {
    const one = connections.get(connection);
    for (const { kind, mid, payloadType } of offered(sdp)) {
      const wanted = one.sections.find((section) => section.kind === kind);
      if (wanted && !one.tracks[kind]) addTrack(one, wanted, mid, payloadType);
    }
    one.pc.setRemoteDescription(sdp, "offer");
    return described(one.pc, "answer");
  },

  accept: ({ connection, sdp }) => connections.get(connection).pc.setRemoteDescription(sdp, "answer"),
  candidate: ({ connection, candidate: { candidate, sdpMid } }) =>
    connections.get(connection).pc.addRemoteCandidate(candidate, sdpMid ?? "0"),
  keyframe: ({ connection }) => void connections.get(connection).receivers.video?.requestKeyframe(),

  close({ connection }) {
    const { pc, bridge } = connections.get(connection);
    connections.delete(connection);
    bridge.close();
    pc.close();
  },
};

await serve(methods);
