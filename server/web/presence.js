// The peers in the room, and which of them were restarted. Mirrors peer/signaling/presence.py.
//
// Every report of the relay results in { left, restarted, came }, arrays of ids, in the order in which callers apply
// them. A peer is restarted if the relay reports another `instance` than before (docs/protocol.md, server rule 3), also
// if the peer had left in between. A missing instance proves nothing.

// Maximum number of remembered peers that have left. Without the limit, a peer that joins under ever new ids would fill
// the memory.
const MAX_DEPARTED = 1024;

// Maximum length of an instance, in characters.
const MAX_INSTANCE = 64;

export class Presence {
  #isOther;
  #peers = new Map(); // id -> instance, or null
  #departed = new Map(); // the same for peers that have left; the oldest first

  // `isOther(id)`: whether this is the id of another peer.
  constructor(isOther) {
    this.#isOther = isOther;
  }

  has(peer) {
    return this.#peers.has(peer);
  }

  get peers() {
    return [...this.#peers.keys()];
  }

  // A `peer-list`. The legacy server omits an empty `peers`.
  replace({ peers, instances }) {
    const listed = new Map();
    for (const peer of Array.isArray(peers) ? peers : []) {
      if (this.#isOther(peer)) listed.set(peer, instances instanceof Object ? readInstance(instances[peer]) : null);
    }
    const known = new Map([...this.#departed, ...this.#peers]);
    const left = this.peers.filter((peer) => !listed.has(peer) || differ(known.get(peer), listed.get(peer)));
    for (const peer of left) this.#forget(peer);
    const came = [...listed.keys()].filter((peer) => !this.has(peer));
    const restarted = came.filter((peer) => differ(known.get(peer), listed.get(peer)));
    for (const peer of came) this.#departed.delete(peer);
    this.#peers = new Map([...listed].map(([peer, instance]) => [peer, instance ?? known.get(peer) ?? null]));
    return { left, restarted, came };
  }

  // A `peer-joined`.
  add({ peerId: peer, instance: value }) {
    if (!this.#isOther(peer)) return { left: [], restarted: [], came: [] };
    const instance = readInstance(value);
    if (this.has(peer) && !differ(this.#peers.get(peer), instance)) {
      this.#peers.set(peer, instance ?? this.#peers.get(peer));
      return { left: [], restarted: [], came: [] };
    }
    const { left } = this.remove(peer);
    const known = this.#departed.get(peer) ?? null;
    this.#departed.delete(peer);
    this.#peers.set(peer, instance ?? known);
    return { left, restarted: differ(known, instance) ? [peer] : [], came: [peer] };
  }

  // A `peer-left`, or `peer-not-found` for this peer.
  remove(peer) {
    if (!this.has(peer)) return { left: [], restarted: [], came: [] };
    this.#forget(peer);
    return { left: [peer], restarted: [], came: [] };
  }

  #forget(peer) {
    const instance = this.#peers.get(peer);
    this.#peers.delete(peer);
    if (instance === null) return;
    this.#departed.set(peer, instance);
    if (this.#departed.size > MAX_DEPARTED) this.#departed.delete(this.#departed.keys().next().value);
  }
}

function readInstance(value) {
  return typeof value === "string" && value !== "" && [...value].length <= MAX_INSTANCE ? value : null;
}

function differ(one, other) {
  return typeof one === "string" && typeof other === "string" && one !== other;
}
