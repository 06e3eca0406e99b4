"""CPU of our relay, a plain websockets relay and the old Go server, alternating on this machine.

    python benchmarks/relay.py [--rounds 3]

Three loads, each with a new process per relay: 3 kB offers, 200 B candidates, and 1,000 peers that join at once.
The load uses raw sockets and prepared messages with one message per pair in flight, so that only the relay is
measured: the CPU time of its process, user and system. Only ratios are meaningful; the table shows the median of
the rounds.

``missed``: how often, in all rounds, one of the 1,000 peers was never informed of another.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from lab import machine
from swarm import OFFER, RELAYS, TRICKLE, Relay, Swarm, frame, isolate, unmasked

ALL_SENT = 2.0
"""Seconds without a notice after which the storm counts as over."""

PEER = re.compile(rb'"(peer-\d{5})"')
LONGEST = len('"peer-00000"') - 1
"""Maximum length of an incomplete id at the end of a read, in bytes."""


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU time in seconds, and the number of missed notices."""

    cpu: float
    missed: int = 0


def route(relay: Relay, body: dict[str, object], count: int, pairs: int = 16) -> Spent:
    """Measure the CPU time per message from one peer to another, the mean of ``count``."""
    with Swarm() as swarm:
        swarm.join(lambda _: relay.port, 2 * pairs, 2 * pairs, quiet=0.2)
        peers = list(swarm.peers.values())
        senders = {receiver.fd: sender for sender, receiver in zip(peers[::2], peers[1::2], strict=True)}
        frames = {
            receiver: frame(body | {"from": sender.id, "to": sender.partner.id})
            for receiver, sender in senders.items()
        }
        missing = {receiver: unmasked(data) for receiver, data in frames.items()}
        before, sent, arrived = relay.cpu(), pairs, 0
        for receiver, sender in senders.items():
            sender.socket.sendall(frames[receiver])
        while arrived < count:
            for fd, _ in swarm.poll.poll():
                size = len(swarm.receive(fd))
                if fd not in missing:
                    continue  # a sender, which receives only pings
                missing[fd] -= size
                if size and missing[fd] == 0:
                    arrived += 1
                    missing[fd] = unmasked(frames[fd])
                    if sent < count:
                        sent += 1
                        senders[fd].socket.sendall(frames[fd])
        return Spent((relay.cpu() - before) / count)


def storm(relay: Relay, count: int) -> Spent:
    """Measure the CPU time of ``count`` simultaneous joins, until all peers know each other or no notice follows."""
    before = relay.cpu()
    with Swarm() as swarm:
        peers = swarm.connect(lambda _: relay.port, count)
        joins = [frame({"type": "join", "peerId": peer.id}) for peer in peers]
        known: dict[int, set[bytes]] = {peer.fd: set() for peer in peers}
        rest = dict.fromkeys(known, b"")
        for peer, join in zip(peers, joins, strict=True):
            peer.socket.sendall(join)
        incomplete = set(known)
        while incomplete and (ready := swarm.poll.poll(ALL_SENT)):
            for fd, _ in ready:
                data = rest[fd] + swarm.receive(fd)
                known[fd].update(PEER.findall(data))
                rest[fd] = data[-LONGEST:]
                if len(known[fd]) == count - 1:  # duplicates count once
                    incomplete.discard(fd)
        spent = relay.cpu() - before
        for peer in peers:
            assert peer.id.encode() not in known[peer.fd], "a peer was informed of itself"
        return Spent(spent, sum(count - 1 - len(names) for names in known.values()))


LOADS: list[tuple[str, str, Callable[[Relay, argparse.Namespace], Spent]]] = [
    (
        f"one offer routed, {len(frame(OFFER)) / 1000:.1f} kB",
        "µs",
        lambda relay, options: route(relay, OFFER, options.frames),
    ),
    (
        f"one candidate routed, {len(frame(TRICKLE))} B",
        "µs",
        lambda relay, options: route(relay, TRICKLE, options.frames),
    ),
    ("{0.peers:,} peers connect and join at once", "ms", lambda relay, options: storm(relay, options.peers)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=20_000, help="messages routed per round")
    parser.add_argument("--peers", type=int, default=1_000, help="peers in the storm")
    options = parser.parse_args()
    isolate()
    print(f"{machine()}; median of {options.rounds} rounds\n")
    print("| load | plain | Go | ours | ours / plain | ours / Go | missed: plain, Go, ours |")
    print("|---|---|---|---|---|---|---|")
    for title, unit, load in LOADS:
        rounds: dict[str, list[Spent]] = {name: [] for name in RELAYS}
        for _ in range(options.rounds):
            for name, running in RELAYS.items():
                with running() as relay:
                    rounds[name].append(load(relay, options))
        cpu = {name: statistics.median(spent.cpu for spent in taken) for name, taken in rounds.items()}
        missed = ", ".join(f"{sum(spent.missed for spent in taken):,}" for taken in rounds.values())
        figures = [f"{seconds * (1e6 if unit == 'µs' else 1e3):.0f} {unit}" for seconds in cpu.values()]
        ratios = [f"{cpu['ours'] / cpu[other]:.2f}" for other in ("plain", "go")]
        print("|", " | ".join([title.format(options), *figures, *ratios, missed]), "|", flush=True)


if __name__ == "__main__":
    main()
