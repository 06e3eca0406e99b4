"""CPU of our relay, a plain websockets relay and the old Go server, in turn, on this machine.

    python benchmarks/relay.py [--rounds 3]

Three loads, each on a fresh process of each relay: 3 kB offers, 200 B candidates, and 1,000 peers who join at once.
The load is raw sockets and frames made beforehand, with one frame of each pair under way at a time, so that what is
measured is the relay: the CPU time of its process, user and system. Only ratios mean anything: the relays take
turns, and the table shows the median of the rounds.

``missed``: how many times, in all rounds, one of the 1,000 was never told of another one.
"""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from lab import machine
from swarm import OFFER, RELAYS, TRICKLE, Relay, Swarm, alone, frame, unmasked

ALL_SENT = 2.0
"""Seconds without a notice after which no more will come."""

PEER = re.compile(rb'"(peer-\d{5})"')
LONGEST = len('"peer-00000"') - 1
"""Octets of an id whose end is still to come."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of CPU, and how many were never told of somebody."""

    cpu: float
    missed: int = 0


def route(relay: Relay, body: dict[str, object], count: int, pairs: int = 16) -> Spent:
    """CPU for one frame from one peer to another, the mean of ``count``."""
    with Swarm() as swarm:
        swarm.join(lambda _: relay.port, 2 * pairs, 2 * pairs, quiet=0.2)
        peers = list(swarm.peers.values())
        senders = {receiver.fd: sender for sender, receiver in zip(peers[::2], peers[1::2], strict=True)}
        frames = {
            receiver: frame(body | {"from": sender.id, "to": sender.partner.id})
            for receiver, sender in senders.items()
        }
        missing = {receiver: unmasked(octets) for receiver, octets in frames.items()}
        before, sent, arrived = relay.cpu(), pairs, 0
        for receiver, sender in senders.items():
            sender.socket.sendall(frames[receiver])
        while arrived < count:
            for fd, _ in swarm.poll.poll():
                size = len(swarm.receive(fd))
                if fd not in missing:
                    continue  # a sender, which gets pings only
                missing[fd] -= size
                if size and missing[fd] == 0:
                    arrived += 1
                    missing[fd] = unmasked(frames[fd])
                    if sent < count:
                        sent += 1
                        senders[fd].socket.sendall(frames[fd])
        return Spent((relay.cpu() - before) / count)


def storm(relay: Relay, count: int) -> Spent:
    """CPU for ``count`` peers that connect and join at once, until all know each other or nothing more comes."""
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
                octets = rest[fd] + swarm.receive(fd)
                known[fd].update(PEER.findall(octets))
                rest[fd] = octets[-LONGEST:]
                if len(known[fd]) == count - 1:  # who is told twice of one counts him once
                    incomplete.discard(fd)
        spent = relay.cpu() - before
        for peer in peers:
            assert peer.id.encode() not in known[peer.fd], "nobody is told of himself"
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
    parser.add_argument("--frames", type=int, default=20_000, help="routed a round")
    parser.add_argument("--peers", type=int, default=1_000, help="in the storm")
    options = parser.parse_args()
    alone()
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
