"""How long a frame takes through the relay at 2,000 a second, and what that costs.

    python benchmarks/relay_latency.py [--peers 100,1000,10000] [--others 1000]
    python benchmarks/relay_latency.py --nodes 1,2,3

The load is open: each frame has its time by a clock, is sent then whatever became of those before it, and its
latency counts from then on until the swarm was told that it can be read. Nine of ten frames are candidates of 174 B,
one is an offer of 3.1 kB; all peers send in turn, in rooms of ten. ``swarm late``, the 99th percentile of how long
after their time frames were sent, is in the latency too: near it, the swarm is what was measured.

``--nodes``: relays that are one through a redis-server, all on one core, with 1,000 peers. Partners are at the same
node or, ``across``, never. The CPU is that of all nodes; redis has its own column.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from lab import Window, machine
from swarm import (
    OFFER,
    PING,
    PONG,
    RELAYS,
    TRICKLE,
    Peer,
    Relay,
    Swarm,
    alone,
    frame,
    ours,
    process,
    unmasked,
    wait_for_port,
)

ROOM = 10
OFFER_EACH = 10
PATIENCE = 10.0
"""Seconds after the last frame was sent in which all must have come."""

REDIS = 6379


@dataclass(frozen=True, slots=True)
class Planned:
    """A frame to send; ``size`` octets arrive."""

    sender: Peer
    octets: bytes
    size: int


def plan(peers: Sequence[Peer], count: int) -> list[Planned]:
    """The frames, in the order of sending: no peer sends twice before all did once."""
    order = random.Random(1).sample(peers, len(peers))
    planned = []
    for number in range(count):
        sender = order[number % len(order)]
        body = OFFER if number % OFFER_EACH == 0 else TRICKLE
        octets = frame(body | {"from": sender.id, "to": sender.partner.id})
        planned.append(Planned(sender, octets, unmasked(octets)))
    return planned


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds, sorted."""

    latency: list[float]
    late: list[float]


def offer(swarm: Swarm, planned: Sequence[Planned], rate: float) -> Took:
    """Send ``rate`` frames a second by the clock, and wait for all of them. One thread, which never sleeps."""
    buffer = bytearray(1 << 16)
    under_way: dict[int, deque[tuple[float, int]]] = {fd: deque() for fd in swarm.peers}
    got = dict.fromkeys(swarm.peers, 0)
    owed: deque[Peer] = deque()  # pongs
    latency: list[float] = []
    late: list[float] = []
    clock, poll, peers, count = time.perf_counter, swarm.poll.poll, swarm.peers, len(planned)
    begin = clock() + 0.01
    while len(latency) < count:
        now, due = clock(), begin + len(late) / rate
        if len(late) < count and now >= due:
            one = planned[len(late)]
            late.append(now - due)
            under_way[one.sender.partner.fd].append((due, one.size))
            one.sender.socket.sendall(one.octets)
        elif len(late) == count and now > due + PATIENCE:
            raise RuntimeError(f"{count - len(latency)} of {count} frames never came")
        ready = poll(0, 4)  # few, so that the next frame is on time
        now = clock()
        for fd, _ in ready:
            size = peers[fd].socket.recv_into(buffer)
            if not size:
                raise RuntimeError(f"the relay closed {peers[fd].id}")
            if pings := buffer.count(PING, 0, size):
                owed.append(peers[fd])
            got[fd] += size - pings * len(PING)
            expected = under_way[fd]
            while expected and got[fd] >= expected[0][1]:
                since, octets = expected.popleft()
                got[fd] -= octets
                latency.append(now - since)
        if not ready and owed:
            owed.popleft().socket.sendall(PONG)
    if any(got.values()):
        raise RuntimeError("something came that was neither a frame of ours nor a ping")
    return Took(sorted(latency), sorted(late))


def percentile(ordered: Sequence[float], share: float) -> str:
    """In milliseconds."""
    return f"{ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e3:.2f}"


@dataclass(frozen=True, slots=True)
class Service:
    """What serves: relays, and what they need besides."""

    relays: Sequence[Relay]
    besides: Sequence[Relay] = ()


@contextmanager
def single(running: AbstractContextManager[Relay]) -> Iterator[Service]:
    with running as relay:
        yield Service([relay])


@contextmanager
def cluster(nodes: int) -> Iterator[Service]:
    """So many of ours, joined through a redis-server that keeps nothing on disk."""
    redis = ("redis-server", "--port", str(REDIS), "--bind", "127.0.0.1", "--save", "", "--logfile", "/dev/null")
    with ExitStack() as stack:
        ledger = stack.enter_context(process(redis))
        wait_for_port(REDIS)
        joined = ("--cluster", f"redis://127.0.0.1:{REDIS}")
        relays = [stack.enter_context(ours(*joined)) for _ in range(nodes)]
        yield Service(relays, [Relay(ledger.pid, REDIS)])


def measure(
    running: AbstractContextManager[Service], peers: int, room: int, across: bool, options: argparse.Namespace
) -> list[str]:
    """The figures of one row."""
    with running as service, Swarm() as swarm:
        ports = [relay.port for relay in service.relays]
        swarm.join(lambda number: ports[(number if across else number // 2) % len(ports)], peers, room)
        planned = plan(list(swarm.peers.values()), int(options.rate * options.seconds))
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection here would be a latency there
        pids = [one.pid for one in (*service.relays, *service.besides)]
        window, begin = Window(os.getpid(), *pids), time.monotonic()
        before = [[one.cpu() for one in kind] for kind in (service.relays, service.besides)]
        took = offer(swarm, planned, options.rate)
        seconds = time.monotonic() - begin
        after = [[one.cpu() for one in kind] for kind in (service.relays, service.besides)]
        gc.enable()
        gc.unfreeze()
        cpu = [f"{(sum(now) - sum(then)) / seconds:.0%}" for now, then in zip(after, before, strict=True)]
        latency = [percentile(took.latency, share) for share in (0.5, 0.99, 0.999, 1)]
        late = percentile(took.late, 0.99)
        return [*latency, late, *cpu[: 1 + bool(service.besides)], f"{window.cost().others:.2f}"]


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="100,1000,10000")
    parser.add_argument("--others", default="1000", help="peers of the plain and the Go relay, in one room")
    parser.add_argument("--nodes", help="a cluster of so many instead, like 1,2,3")
    parser.add_argument("--cluster-peers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=2000, help="frames a second")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    alone()
    print(f"{machine()}; {options.rate:g} frames a second for {options.seconds:g} s, milliseconds\n")
    figures = "p50 | p99 | p99.9 | most | swarm late | CPU"
    if options.nodes:
        print(f"| nodes | partners | {figures} | CPU of redis | others |\n|{'---|' * 10}")
        for nodes in numbers(options.nodes):
            for across in (False, True)[: 1 + (nodes > 1)]:
                found = measure(cluster(nodes), options.cluster_peers, ROOM, across, options)
                print("|", " | ".join([str(nodes), "across" if across else "same", *found]), "|", flush=True)
        return
    print(f"| relay | peers | a room | {figures} | others |\n|{'---|' * 10}")
    rows = [("ours", peers, ROOM) for peers in numbers(options.peers)]
    rows += [(name, peers, peers) for peers in numbers(options.others) for name in ("plain", "go")]
    for name, peers, room in rows:
        found = measure(single(RELAYS[name]()), peers, room, False, options)
        print("|", " | ".join([name, f"{peers:,}", f"{room:,}", *found]), "|", flush=True)


if __name__ == "__main__":
    main()
