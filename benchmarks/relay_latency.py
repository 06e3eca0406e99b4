"""Latency and CPU of the relay at 2,000 messages per second.

    python benchmarks/relay_latency.py [--peers 100,1000,10000] [--others 1000]
    python benchmarks/relay_latency.py --nodes 1,2,3

The load is open: each message is sent at its scheduled time, whatever happened to earlier ones, and its latency
counts from that time until the swarm's poll reports it as readable. Nine of ten messages are candidates of 174 B,
one is an offer of 3.1 kB; all peers send in turn, in rooms of ten. ``load late``, the 99th percentile of the delay
between scheduled and actual sending, is included in the latency: if the two are close, the swarm was measured, not
the relay.

``--nodes``: relays in a cluster with one redis-server, all on one core, with 1,000 peers. The peers of a pair are
on the same node (``same``) or never (``across``). The CPU is the sum of all nodes; redis has its own column.
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
    frame,
    isolate,
    ours,
    process,
    unmasked,
    wait_for_port,
)

ROOM = 10
OFFER_EACH = 10
PATIENCE = 10.0
"""Maximum time after sending the last message until all have arrived, in seconds."""

REDIS = 6379


@dataclass(frozen=True, slots=True)
class Planned:
    """A frame to send; ``size`` is its length on arrival."""

    sender: Peer
    data: bytes
    size: int


def plan(peers: Sequence[Peer], count: int) -> list[Planned]:
    """Return the frames in the order of sending; the peers take turns."""
    order = random.Random(1).sample(peers, len(peers))
    planned = []
    for number in range(count):
        sender = order[number % len(order)]
        body = OFFER if number % OFFER_EACH == 0 else TRICKLE
        data = frame(body | {"from": sender.id, "to": sender.partner.id})
        planned.append(Planned(sender, data, unmasked(data)))
    return planned


@dataclass(frozen=True, slots=True)
class Took:
    """Sorted times in seconds."""

    latency: list[float]
    late: list[float]


def offer(swarm: Swarm, planned: Sequence[Planned], rate: float) -> Took:
    """Send ``rate`` frames per second on schedule, and wait for all of them. One thread that never sleeps."""
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
            one.sender.socket.sendall(one.data)
        elif len(late) == count and now > due + PATIENCE:
            raise RuntimeError(f"{count - len(latency)} of {count} frames never arrived")
        ready = poll(0, 4)  # only a few, so that the next frame is on time
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
                since, size = expected.popleft()
                got[fd] -= size
                latency.append(now - since)
        if not ready and owed:
            owed.popleft().socket.sendall(PONG)
    if any(got.values()):
        raise RuntimeError("received something that is neither a sent frame nor a ping")
    return Took(sorted(latency), sorted(late))


def percentile(ordered: Sequence[float], share: float) -> str:
    """Return a percentile in milliseconds."""
    return f"{ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1e3:.2f}"


@dataclass(frozen=True, slots=True)
class Service:
    """Running relays, and the processes they depend on."""

    relays: Sequence[Relay]
    besides: Sequence[Relay] = ()


@contextmanager
def single(running: AbstractContextManager[Relay]) -> Iterator[Service]:
    with running as relay:
        yield Service([relay])


@contextmanager
def cluster(nodes: int) -> Iterator[Service]:
    """Run ``nodes`` relays of ours in a cluster, with a redis-server without persistence."""
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
    """Measure one row of the table."""
    with running as service, Swarm() as swarm:
        ports = [relay.port for relay in service.relays]
        swarm.join(lambda number: ports[(number if across else number // 2) % len(ports)], peers, room)
        planned = plan(list(swarm.peers.values()), int(options.rate * options.seconds))
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection here would count as latency
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
    parser.add_argument("--nodes", help="clusters of these sizes instead, for example 1,2,3")
    parser.add_argument("--cluster-peers", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=2000, help="messages per second")
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    isolate()
    print(f"{machine()}; {options.rate:g} messages per second for {options.seconds:g} s, milliseconds\n")
    figures = "p50 | p99 | p99.9 | max | load late | CPU"
    if options.nodes:
        print(f"| nodes | pairs | {figures} | CPU of redis | others |\n|{'---|' * 10}")
        for nodes in numbers(options.nodes):
            for across in (False, True)[: 1 + (nodes > 1)]:
                found = measure(cluster(nodes), options.cluster_peers, ROOM, across, options)
                print("|", " | ".join([str(nodes), "across" if across else "same", *found]), "|", flush=True)
        return
    print(f"| relay | peers | per room | {figures} | others |\n|{'---|' * 10}")
    rows = [("ours", peers, ROOM) for peers in numbers(options.peers)]
    rows += [(name, peers, peers) for peers in numbers(options.others) for name in ("plain", "go")]
    for name, peers, room in rows:
        found = measure(single(RELAYS[name]()), peers, room, False, options)
        print("|", " | ".join([name, f"{peers:,}", f"{room:,}", *found]), "|", flush=True)


if __name__ == "__main__":
    main()
