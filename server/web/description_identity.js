// Identity of a session description: whose transport it describes, and whether a second offer keeps it. Pure.
//
// This is peer/negotiation/description_identity.py, line by line. That file explains the rules.

const MAX_LINES = 1_000; // relevant lines read
const MAX_VALUE = 256; // characters of a ufrag, password, session id or tls-id
const MAX_FINGERPRINTS = 16; // per section
const MAX_UFRAGS = 64;

const LINE = /\n(m=|o=|a=group:BUNDLE |a=mid:|a=ice-ufrag:|a=ice-pwd:|a=fingerprint:|a=tls-id:)([^\r\n]{0,4096})/g;

// What an offer does to the connection whose remote description is known (rule 3).
export const SecondOffer = Object.freeze({
  RENEGOTIATION: "renegotiation",
  ICE_RESTART: "ice-restart",
  REPLACEMENT: "replacement",
});

const newLevel = (rejected) => ({ rejected, mid: null, values: new Map(), fingerprints: [] });

const bounded = (value) => (value && value.length <= MAX_VALUE ? value : null);

// { ufrag, password, fingerprints: Set, sessionId, tlsId, ufrags: Set }, with null where a value is absent.
export function readIdentity(sdp) {
  const session = newLevel(false);
  let level = session;
  const sections = [];
  let bundle = [];
  let sessionId = null;
  const ufrags = new Set();
  let count = 0;
  for (const [, name, value] of `\n${sdp}`.matchAll(LINE)) {
    if (++count > MAX_LINES) break;
    const words = value.match(/[^ \t]+/g) ?? [];
    const first = words[0] ?? "";
    if (name === "m=") {
      level = newLevel(words[1] === "0");
      sections.push(level);
    } else if (name === "o=") {
      sessionId = bounded(words[1]);
    } else if (name === "a=group:BUNDLE ") {
      if (!bundle.length) bundle = words;
    } else if (name === "a=mid:") {
      level.mid ||= first;
    } else if (name === "a=fingerprint:") {
      const fingerprint = words.slice(0, 2).join(" ").toLowerCase();
      if (level.fingerprints.length < MAX_FINGERPRINTS) level.fingerprints.push(fingerprint);
    } else if (!level.values.has(name) && bounded(first)) {
      level.values.set(name, first);
      if (name === "a=ice-ufrag:" && ufrags.size < MAX_UFRAGS) ufrags.add(first);
    }
  }
  const tagged = taggedSection(sections, bundle) ?? session;
  const read = (name) => tagged.values.get(name) ?? session.values.get(name) ?? null;
  return {
    ufrag: read("a=ice-ufrag:"),
    password: read("a=ice-pwd:"),
    fingerprints: new Set(tagged.fingerprints.length ? tagged.fingerprints : session.fingerprints),
    sessionId: sessionId ?? null,
    tlsId: read("a=tls-id:"),
    ufrags,
  };
}

// The section that the BUNDLE group names first; without a group, the first one that is not rejected.
function taggedSection(sections, bundle) {
  for (const mid of bundle) {
    const section = sections.find((one) => one.mid && one.mid === mid);
    if (section) return section;
  }
  return sections.find((section) => !section.rejected);
}

const sameSet = (left, right) => left.size === right.size && [...left].every((value) => right.has(value));

// What `offer` does to the connection whose last remote description is `described`. `continues`: it names the current
// call and a higher round. Otherwise a fingerprint alone proves nothing: a gateway has one for all its calls.
export function classify(described, offer, continues = false) {
  if (offer.ufrag === null || !sameSet(offer.fingerprints, described.fingerprints)) return SecondOffer.REPLACEMENT;
  if (offer.ufrag === described.ufrag && offer.password === described.password) return SecondOffer.RENEGOTIATION;
  const sameSession = offer.sessionId !== null && offer.sessionId === described.sessionId;
  if (!offer.fingerprints.size || !(sameSession || continues)) return SecondOffer.REPLACEMENT;
  if (offer.tlsId !== null && described.tlsId !== null && offer.tlsId !== described.tlsId) {
    return SecondOffer.REPLACEMENT; // RFC 8842 5.1: a new DTLS association
  }
  return SecondOffer.ICE_RESTART;
}
