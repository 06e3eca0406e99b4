// The page: who is here, and calls with them. Wires the parts together; the rules are in negotiation.js.

import { Calls } from "./calls.js";
import { LocalMedia } from "./media.js";
import { agree, bringsToken, changeSeat, hasAgreed, isOnlyTab, readSettings, takeSeat } from "./settings.js";
import { Signaling } from "./signaling.js";
import { View } from "./view.js";

const ENDED = {
  "remote-hang-up": (peer) => `${peer} hung up.`,
  "peer-left": (peer) => `${peer} left.`,
  "no-answer": (peer) => `${peer} does not answer.`,
  declined: (peer) => `${peer} declined.`,
  timeout: (peer) => `No connection to ${peer} came about.`,
  "transport-failed": (peer) => `Lost the connection to ${peer}.`,
  "media-error": (peer) => `The call with ${peer} failed in this browser.`,
};

const REFUSED = {
  replaced: "You are here in another window now.",
  unauthorized: "The relay does not let us in without its token.",
  "bad-join": "The relay does not accept this id or room.",
};

const settings = readSettings(location);
let seat = takeSeat(settings.server, settings.id);
const present = new Set();

const view = new View({
  call: (peer) => calls.dial(peer),
  hangUp: (peer) => calls.hangUp(peer),
  enable: (kind, enabled) => media.setEnabled(kind, enabled),
  noticeAction: () => (refusal === "unauthorized" ? view.askSettings() : join()),
  rename: ({ id, room, token }) => {
    const address = new URL(location.href);
    address.searchParams.set("id", id);
    if (room) address.searchParams.set("room", room);
    else address.searchParams.delete("room");
    address.hash = token ? new URLSearchParams({ token }).toString() : "";
    location.href = address.href; // where only the token is new this is a hashchange
  },
});

const media = new LocalMedia({ audio: settings.audio, video: settings.video }, () => {
  view.media(media.stream, { audio: media.track("audio") !== null, video: media.track("video") !== null });
  showNotice();
  calls.retrack();
});

const calls = new Calls({
  me: () => seat.id,
  media,
  send: (message) => signaling.send(message),
  onChange: (peer) => {
    view.card(peer, calls.state(peer), calls.stream(peer));
    showPeers();
  },
  onEnded: (peer, reason, detail) => ENDED[reason] && view.log(ENDED[reason](peer) + (detail ? ` (${detail})` : "")),
  onSample: (peer, sample) => view.facts(peer, sample),
});

// Why we are not in the room: "elsewhere" (not asked yet), or what the relay said.
let refusal = settings.elsewhere && !hasAgreed(settings.server) ? "elsewhere" : null;

const signaling = new Signaling(settings.server, {
  join: () => {
    const { id, key } = seat;
    const { room, token } = settings;
    return { type: "join", peerId: id, ...(room && { room }), ...(token && { token }), key };
  },
  onState: (state, detail) => {
    refusal = state === "refused" || (state === "offline" && detail) ? detail : state === "online" ? null : refusal;
    if (state === "offline" && detail === "id-taken" && settings.id === null) moveToAnotherSeat();
    view.server(state);
    showNotice();
  },
  onMessage: receive,
});

function receive(message) {
  const { type, peerId } = message;
  switch (type) {
    case "peer-list":
      present.clear();
      for (const peer of readPeers(message)) present.add(peer);
      useIceServers(message);
      calls.peersAre(present);
      break;
    case "ice-servers":
      if (message.from === undefined) useIceServers(message); // with a sender it is no word of the relay's
      return;
    case "peer-joined":
      if (!isOther(peerId)) return;
      present.add(peerId);
      calls.peerBack(peerId);
      break;
    case "peer-left":
      present.delete(peerId);
      calls.peerGone(peerId);
      break;
    case "error":
      if (message.code === "peer-not-found" && typeof message.to === "string") {
        present.delete(message.to);
        calls.peerGone(message.to);
      }
      if (message.code === "rate-limited") view.log("The relay did not pass on all we sent: it was too much at once.");
      break;
    default:
      if (isOther(message.from)) calls.receive(message);
  }
  showPeers();
}

// For the connections to come; those that there are keep theirs.
function useIceServers({ iceServers }) {
  calls.iceServers = Array.isArray(iceServers) ? iceServers : [];
}

// The old server leaves an empty list out.
function readPeers({ peers }) {
  return Array.isArray(peers) ? peers.filter(isOther) : [];
}

function isOther(peer) {
  return typeof peer === "string" && peer !== "" && peer !== seat.id;
}

// Our random id belongs to somebody else: nobody asked for it, so any other does.
function moveToAnotherSeat() {
  calls.forgetAll();
  seat = changeSeat(settings.server, null);
  refusal = null;
  view.me({ id: seat.id, room: settings.room });
  setTimeout(() => signaling.hurry(), 0);
}

function showPeers() {
  const peers = [...new Set([...present, ...calls.active()])].sort();
  view.peers(peers.map((peer) => ({ peer, state: calls.state(peer) })));
}

// What is wrong with the seat first, then what is wrong with the devices.
function showNotice() {
  if (refusal === "id-taken") view.notice(`Somebody else is here as ${seat.id}. Trying again.`);
  else if (refusal === "room-full") view.notice("The room is full. Trying again.");
  else if (refusal === "rate-limited") view.notice("The relay asks us to wait: too much at once. Trying again.");
  else if (refusal === "elsewhere") view.notice("This link leads to another relay.", `Join ${whereTo()}?`);
  else if (refusal === "unauthorized") view.notice(REFUSED.unauthorized, "Enter a token");
  else if (refusal === "replaced") view.notice(REFUSED.replaced, "Use it here");
  else if (refusal) view.notice(REFUSED[refusal] ?? `The relay refused: ${refusal}.`);
  else view.notice(media.problem);
}

// Scheme and host, without what a link may hide in front of the host or behind it.
function whereTo() {
  const { protocol, host } = new URL(settings.server);
  return `${protocol}//${host}`;
}

// By a click.
function join() {
  if (refusal === "elsewhere") agree(settings.server);
  refusal = null;
  showNotice();
  signaling.connect();
}

function leave() {
  calls.hangUpAll("shutdown");
  signaling.leave();
}

addEventListener("hashchange", () => bringsToken(location) && location.reload());
addEventListener("pagehide", leave);
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
addEventListener("online", () => signaling.hurry());
document.addEventListener("visibilitychange", () => document.hidden || signaling.hurry());
navigator.mediaDevices?.addEventListener("devicechange", () => media.problem && media.open());

while (!(await isOnlyTab(seat))) seat = changeSeat(settings.server, settings.id);
view.me({ id: seat.id, room: settings.room });
if (refusal === null) signaling.connect();
else view.server("refused");
showNotice();
media.open();
