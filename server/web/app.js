// The page's main program: connects the signaling, the calls, the local media and the view.
//
// The rules of a call are in negotiation.js.

import { Calls } from "./calls.js";
import { LocalMedia } from "./media.js";
import { Presence } from "./presence.js";
import { Ringer } from "./ringer.js";
import {
  addressHasToken,
  answersAutomatically,
  createSeat,
  holdsSeatAlone,
  instance,
  isTrusted,
  loadSeat,
  readSettings,
  setAnswersAutomatically,
  trust,
} from "./settings.js";
import { Signaling } from "./signaling.js";
import { View } from "./view.js";

const ENDED = {
  "remote-hang-up": (peer) => `${peer} hung up.`,
  "peer-left": (peer) => `${peer} left.`,
  "no-answer": (peer) => `${peer} did not answer.`,
  declined: (peer) => `${peer} declined.`,
  timeout: (peer) => `Could not connect to ${peer}.`,
  "transport-failed": (peer) => `Lost the connection to ${peer}.`,
  "media-error": (peer) => `The call with ${peer} failed in this browser.`,
};

// Maximum length of an error message of the relay that is shown, in characters: one line of the notice.
const MAX_ERROR_TEXT = 200;

const settings = readSettings(location);
let seat = loadSeat(settings.server, settings.id);
const presence = new Presence(isOther);

const view = new View({
  call: (peer) => calls.dial(peer),
  hangUp: (peer) => calls.hangUp(peer),
  answer: (peer) => calls.answer(peer),
  decline: (peer) => calls.decline(peer),
  enable: (kind, enabled) => media.setEnabled(kind, enabled),
  answerAutomatically: setAnswersAutomatically,
  noticeAction: () => (refusal.code === "unauthorized" ? view.openSettings() : join()),
  rename: ({ id, room, token }) => {
    const address = new URL(location.href);
    address.searchParams.set("id", id);
    if (room) address.searchParams.set("room", room);
    else address.searchParams.delete("room");
    address.hash = token ? new URLSearchParams({ token }).toString() : "";
    location.href = address.href; // if only the token has changed, this is a hashchange
  },
});

const ringer = new Ringer();

const media = new LocalMedia({ audio: settings.audio, video: settings.video }, () => {
  view.media(media.stream, { audio: media.track("audio") !== null, video: media.track("video") !== null });
  showNotice();
  calls.updateTracks();
});

const calls = new Calls({
  me: () => seat.id,
  media,
  send: (message) => signaling.send(message),
  answersAutomatically,
  onChange: (peer) => {
    view.card(peer, calls.state(peer), calls.stream(peer), calls.trouble(peer));
    showPeers();
  },
  onEnded: (peer, reason, detail) => ENDED[reason] && view.log(ENDED[reason](peer) + (detail ? ` (${detail})` : "")),
  onMissed: (peer) => view.log(`Missed call from ${peer}.`),
  onSample: (peer, sample) => view.facts(peer, sample),
});

// Why this page is not in the room: { code, text }, or null. `code` is "other-relay" (the user has not agreed to join
// it yet), "replaced", or the relay's error code; `text` is the relay's error message, if it sent one.
let refusal = settings.isOtherRelay && !isTrusted(settings.server) ? { code: "other-relay" } : null;

const signaling = new Signaling(settings.server, {
  join: () => {
    const { id, key } = seat;
    const { room, token } = settings;
    return { type: "join", peerId: id, ...(room && { room }), ...(token && { token }), key, instance };
  },
  onState: (state, error) => {
    if (state === "online") {
      refusal = null;
      openMediaOnce();
    } else if (error) {
      refusal = error;
    }
    if (state === "offline" && error?.code === "id-taken" && settings.id === null) moveToAnotherSeat();
    view.server(state);
    showNotice();
  },
  onMessage: receive,
});

// Camera and microphone are not requested before the relay has admitted this page: until then there is no call.
let mediaOpened = false;
function openMediaOnce() {
  if (mediaOpened) return;
  mediaOpened = true;
  media.open();
}

function receive(message) {
  const { type, peerId } = message;
  switch (type) {
    case "peer-list":
      useIceServers(message);
      applyPresence(presence.replace(message));
      calls.setPresent(presence);
      break;
    case "ice-servers":
      if (message.from === undefined) useIceServers(message); // with a `from`, a peer has forged it
      return;
    case "peer-joined":
      if (!isOther(peerId)) return;
      applyPresence(presence.add(message));
      calls.peerBack(peerId);
      break;
    case "peer-left":
      presence.remove(peerId);
      calls.peerGone(peerId);
      break;
    case "error":
      if (message.code === "peer-not-found" && typeof message.to === "string") {
        presence.remove(message.to);
        calls.peerGone(message.to);
      }
      if (message.code === "rate-limited") view.log("The relay dropped some of our messages: too many at once.");
      break;
    default:
      if (isOther(message.from)) calls.receive(message);
  }
  showPeers();
}

// For new connections; existing ones keep theirs.
function useIceServers({ iceServers }) {
  calls.iceServers = Array.isArray(iceServers) ? iceServers : [];
}

// Peers that the message reports as present are passed to the calls after this.
function applyPresence({ left, restarted }) {
  for (const peer of left) calls.peerGone(peer);
  for (const peer of restarted) calls.peerRestarted(peer);
}

function isOther(peer) {
  return typeof peer === "string" && peer !== "" && peer !== seat.id;
}

// Another peer has our random id. The user did not choose it, so a new one is as good.
function moveToAnotherSeat() {
  calls.discardAll();
  seat = createSeat(settings.server, null);
  refusal = null;
  view.me({ id: seat.id, room: settings.room });
  setTimeout(() => signaling.reconnectNow(), 0);
}

function showPeers() {
  const peers = [...new Set([...presence.peers, ...calls.active()])].sort();
  const rows = peers.map((peer) => ({ peer, state: calls.state(peer) }));
  view.peers(rows);
  ringer.ring(rows.some(({ state }) => state === "ringing"));
}

// Problems with the seat come first, then problems with the devices.
function showNotice() {
  if (refusal === null) return view.notice(media.problem);
  const text = refusal.text?.slice(0, MAX_ERROR_TEXT);
  switch (refusal.code) {
    case "id-taken":
      return view.notice(`The id ${seat.id} is in use by another peer. Trying again.`);
    case "room-full":
      return view.notice("The room is full. Trying again.");
    case "rate-limited":
      return view.notice("The relay is limiting our requests: too many at once. Trying again.");
    case "other-relay":
      return view.notice("This link leads to another relay.", `Join ${relayOrigin()}?`);
    case "unauthorized":
      return settings.token
        ? view.notice(`Access denied: ${text ?? "the relay rejected the token"}.`, "Enter another token")
        : view.notice(`Access denied: ${text ?? "this relay requires a token"}.`, "Enter a token");
    case "replaced":
      return view.notice("This id is now in use in another window.", "Use it here");
    case "bad-join":
      return view.notice("The relay rejected this id or room.");
    default:
      return view.notice(`The relay rejected the join: ${refusal.code}.`);
  }
}

// Scheme and host only: a link can hide the host behind user information or a long path.
function relayOrigin() {
  const { protocol, host } = new URL(settings.server);
  return `${protocol}//${host}`;
}

// The user clicked the notice's button.
function join() {
  if (refusal.code === "other-relay") trust(settings.server);
  refusal = null;
  showNotice();
  signaling.connect();
}

function leave() {
  calls.hangUpAll("shutdown");
  signaling.leave();
}

addEventListener("hashchange", () => addressHasToken(location) && location.reload());
addEventListener("pagehide", leave);
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
addEventListener("online", () => signaling.reconnectNow());
addEventListener("storage", () => view.answerAutomatically(answersAutomatically())); // changed in another tab
document.addEventListener("visibilitychange", () => document.hidden || signaling.reconnectNow());
navigator.mediaDevices?.addEventListener("devicechange", () => media.problem && media.open());

view.answerAutomatically(answersAutomatically());
while (!(await holdsSeatAlone(seat))) seat = createSeat(settings.server, settings.id);
view.me({ id: seat.id, room: settings.room });
if (refusal === null) signaling.connect();
else view.server("refused");
showNotice();
