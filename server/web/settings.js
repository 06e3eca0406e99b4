// Who we are and where: the page's address says it, the tab remembers what the address leaves open.
//
//   ?id=door&room=hall                who and where
//   #token=…                          what the relay lets us in for; taken out of the address at once
//   &server=wss://host/ws             another relay than the one that served the page
//   &video=none&audio=none            receive only
//   &size=640x360&fps=15              what to ask of the camera

const ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"; // without what looks alike

const random = (length, alphabet) =>
  Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => alphabet[byte % alphabet.length]).join("");

export const isValidId = (text) => /^[A-Za-z0-9._~-]{1,64}$/.test(text);

export function readSettings(location) {
  const query = new URLSearchParams(location.search);
  const [width, height] = (query.get("size") ?? "1280x720").split("x").map(Number);
  const server = new URL(query.get("server") ?? "ws", location.href);
  server.hash = "";
  server.protocol = server.protocol.replace(/^http/, "ws"); // wss on https: a browser refuses anything less
  return {
    id: query.get("id") || null,
    room: query.get("room") || "",
    token: takeToken(location, server.href),
    server: server.href,
    elsewhere: server.origin !== location.origin.replace(/^http/, "ws"), // not who served the page: ask first
    video: query.get("video") !== "none" && {
      width: { ideal: width || 1280 },
      height: { ideal: height || 720 },
      frameRate: { ideal: Number(query.get("fps")) || 30 },
    },
    audio: query.get("audio") !== "none",
  };
}

// Whether the address brings a token, which a link in a page that is open already may do.
export const bringsToken = (location) => new URLSearchParams(location.hash.slice(1)).has("token");

// The token for `server`: from the address, out of which it is taken before anybody can see, copy or bookmark it; else
// what this tab keeps. It comes behind the #, which browsers send to nobody. ?token= was sent, and is taken out too.
function takeToken(location, server) {
  const address = new URL(location.href);
  const fragment = new URLSearchParams(address.hash.slice(1));
  const given = fragment.get("token") ?? address.searchParams.get("token");
  if (given === null) return recall(`token ${server}`) ?? "";
  fragment.delete("token");
  address.hash = fragment.toString();
  address.searchParams.delete("token");
  history.replaceState(history.state, "", address);
  keep(`token ${server}`, given);
  return given;
}

// Our seat at `server`, { id, key }: the secret `key` takes it back after a reload or a lost connection. One for each
// server: whoever runs another one, and made the link to it, must not learn the key of this one.
export function takeSeat(server, wantedId) {
  const kept = recall(`seat ${server}`);
  const isSeat = kept && isValidId(kept.id) && typeof kept.key === "string";
  return isSeat && (wantedId === null || kept.id === wantedId) ? kept : changeSeat(server, wantedId);
}

// Another seat, because this one is taken: under `wantedId`, if the address insists on one.
export function changeSeat(server, wantedId) {
  const seat = { id: wantedId ?? `page-${random(5, ALPHABET)}`, key: random(32, "0123456789abcdef") };
  keep(`seat ${server}`, seat);
  return seat;
}

// Whether the user said yes to this server, in this tab.
export const hasAgreed = (server) => recall(`agreed ${server}`) === true;
export const agree = (server) => keep(`agreed ${server}`, true);

// What the tab keeps across reloads. Where site data is blocked sessionStorage itself throws: a reload forgets, then.
function keep(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // see above
  }
}

function recall(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

// Whether no other tab sits on this seat. A duplicated tab copies sessionStorage, and two would throw each other
// out for ever. The lock lives as long as the tab; a reload waits a moment for its own old one.
export async function isOnlyTab(seat, locks = navigator.locks) {
  if (!locks) return true; // not a secure context: the relay's close code 4001 is the last line
  return new Promise((resolve) => {
    const patience = new AbortController(); // AbortSignal.timeout is younger than locks: Safari 15.4
    const timer = setTimeout(() => patience.abort(), 400);
    const untilClosed = () => {
      clearTimeout(timer);
      resolve(true);
      return new Promise(() => {});
    };
    // Any other error is no other tab: where site data is blocked there are no locks either.
    const refused = ({ name }) => resolve(name !== "AbortError");
    locks.request(`seat ${seat.key}`, { signal: patience.signal }, untilClosed).catch(refused);
  });
}
