// The page's settings: from its address, and from what the tab and the browser store.
//
//   ?id=door&room=hall                id and room
//   #token=…                          access token for the relay; removed from the address at once
//   &server=wss://host/ws             a relay other than the one that served the page
//   &video=none&audio=none            receive only
//   &size=640x360&fps=15              size and frame rate to request from the camera

const ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"; // without characters that look alike

const random = (length, alphabet) =>
  Array.from(crypto.getRandomValues(new Uint8Array(length)), (byte) => alphabet[byte % alphabet.length]).join("");

// Distinguishes this load of the page from others with the same id and key (docs/protocol.md, server rule 3).
export const instance = random(20, ALPHABET);

export const isValidId = (text) => /^[A-Za-z0-9._~-]{1,64}$/.test(text);

export function readSettings(location) {
  const query = new URLSearchParams(location.search);
  const [width, height] = (query.get("size") ?? "1280x720").split("x").map(Number);
  const server = new URL(query.get("server") ?? "ws", location.href);
  server.hash = "";
  server.protocol = server.protocol.replace(/^http/, "ws"); // on https, browsers permit only wss
  return {
    id: query.get("id") || null,
    room: query.get("room") || "",
    token: takeToken(location, server.href),
    server: server.href,
    isOtherRelay: server.origin !== location.origin.replace(/^http/, "ws"), // not the one that served the page
    video: query.get("video") !== "none" && {
      width: { ideal: width || 1280 },
      height: { ideal: height || 720 },
      frameRate: { ideal: Number(query.get("fps")) || 30 },
    },
    audio: query.get("audio") !== "none",
  };
}

// Whether the address contains a token. A link that is followed within the open page can add one.
export const addressHasToken = (location) => new URLSearchParams(location.hash.slice(1)).has("token");

// The token for `server`: from the address, or else the one that this tab has stored. It is removed from the address
// before it can be seen, copied or bookmarked. Browsers do not send the fragment (#token=) to the server. They do send
// ?token=, which is accepted and removed as well.
function takeToken(location, server) {
  const address = new URL(location.href);
  const fragment = new URLSearchParams(address.hash.slice(1));
  const given = fragment.get("token") ?? address.searchParams.get("token");
  if (given === null) return load(`token ${server}`) ?? "";
  fragment.delete("token");
  address.hash = fragment.toString();
  address.searchParams.delete("token");
  history.replaceState(history.state, "", address);
  store(`token ${server}`, given);
  return given;
}

// The seat at `server`, { id, key }. The secret `key` reclaims it after a reload or a lost connection. Each server has
// its own seat: the operator of another relay, who may have made the link to it, must not learn the key for this one.
export function loadSeat(server, wantedId) {
  const stored = load(`seat ${server}`);
  const isSeat = stored && isValidId(stored.id) && typeof stored.key === "string";
  return isSeat && (wantedId === null || stored.id === wantedId) ? stored : createSeat(server, wantedId);
}

// A new seat, with the id of the address if there is one.
export function createSeat(server, wantedId) {
  const seat = { id: wantedId ?? `page-${random(5, ALPHABET)}`, key: random(32, "0123456789abcdef") };
  store(`seat ${server}`, seat);
  return seat;
}

// Whether the user has agreed to join this relay, in this tab.
export const isTrusted = (server) => load(`agreed ${server}`) === true;
export const trust = (server) => store(`agreed ${server}`, true);

// Whether calls are answered automatically (the default) or ring. Stored by the browser for all tabs. Where site data
// is blocked, the setting lasts as long as the page.
let fallback = true;

export function answersAutomatically() {
  try {
    return localStorage.getItem("answer") !== "ring";
  } catch {
    return fallback;
  }
}

export function setAnswersAutomatically(automatic) {
  fallback = automatic;
  try {
    localStorage.setItem("answer", automatic ? "automatically" : "ring");
  } catch {
    // site data is blocked; see above
  }
}

// What the tab keeps across reloads. Where site data is blocked, sessionStorage itself throws, and nothing is kept.
function store(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
  } catch {
    // site data is blocked; see above
  }
}

function load(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

// Maximum time to wait for the lock of a seat, in ms: a reloaded tab releases its own a moment later.
const LOCK_TIMEOUT = 400;

// Whether no other tab holds this seat. Duplicating a tab copies sessionStorage, and two tabs with one key would take
// the seat from each other forever. The lock is held until the tab is closed.
export async function holdsSeatAlone(seat, locks = navigator.locks) {
  if (!locks) return true; // not a secure context: the relay's close code 4001 still ends a conflict
  return new Promise((resolve) => {
    const abort = new AbortController(); // AbortSignal.timeout does not exist in Safari 15.4, but locks do
    const timer = setTimeout(() => abort.abort(), LOCK_TIMEOUT);
    const holdUntilClosed = () => {
      clearTimeout(timer);
      resolve(true);
      return new Promise(() => {});
    };
    // Any other error does not mean another tab: where site data is blocked, there are no locks.
    const failed = ({ name }) => resolve(name !== "AbortError");
    locks.request(`seat ${seat.key}`, { signal: abort.signal }, holdUntilClosed).catch(failed);
  });
}
