"""CPU of our relay against a plain websockets relay, in turn, on this machine: ``python benchmarks/relay.py``.

Three loads, each on a fresh process of either relay: 3 kB offers, 200 B candidates, and 1,000 peers who join at once.
The load is raw sockets and frames made beforehand, with one frame of each pair under way at a time, so that what is
measured is the relay: the CPU time of its process, user and system, from /proc/PID/schedstat. Only ratios mean
anything: the relays take turns, and the table shows the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import select
import signal
import socket
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from websockets.frames import Frame, Opcode

HERE = Path(__file__).resolve().parent
OURS = """
import asyncio
from server.relay import RelayConfig, serve
asyncio.run(serve(RelayConfig(port=0), started=lambda relay: print(relay.port, flush=True)))
"""
RELAYS = {"plain": [str(HERE / "plain_relay.py")], "ours": ["-c", OURS]}

SDP_LINE = "a=rtpmap:111 opus/48000/2\r\n"
CANDIDATE = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0"


@dataclass
class Relay:
    """A running relay and what it has cost."""

    pid: int
    port: int

    def cpu(self) -> float:
        """Seconds of CPU so far."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9


@contextmanager
def running(name: str) -> Iterator[Relay]:
    command = [sys.executable, *RELAYS[name]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None
        yield Relay(process.pid, int(process.stdout.readline()))
        process.send_signal(signal.SIGKILL)


def frame(body: object) -> bytes:
    return Frame(Opcode.TEXT, json.dumps(body, separators=(",", ":")).encode()).serialize(mask=True)


def connect(relay: Relay) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", relay.port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += peer.recv(4096)
    return peer


def drain(peers: list[socket.socket], seconds: float = 0.2) -> None:
    while ready := select.select(peers, [], [], seconds)[0]:
        for peer in ready:
            peer.recv(1 << 20)


def route(relay: Relay, body: dict[str, object], count: int, pairs: int = 16) -> float:
    """Seconds of CPU for one frame from one peer to another, the mean of ``count``."""
    senders, receivers, frames = [], {}, []
    for i in range(pairs):
        sender, receiver = connect(relay), connect(relay)
        sender.sendall(frame({"type": "join", "peerId": f"sender-{i}"}))
        receiver.sendall(frame({"type": "join", "peerId": f"receiver-{i}"}))
        senders.append(sender)
        receivers[receiver.fileno()] = receiver
        frames.append(frame(body | {"from": f"sender-{i}", "to": f"receiver-{i}"}))
    drain([*senders, *receivers.values()])
    index = {fileno: i for i, fileno in enumerate(receivers)}
    size = {fileno: len(frames[i]) - 4 for fileno, i in index.items()}  # without the mask
    missing = dict(size)
    poll = select.epoll()
    for fileno in receivers:
        poll.register(fileno, select.EPOLLIN)
    before, sent, arrived = relay.cpu(), pairs, 0
    for i, sender in enumerate(senders):
        sender.sendall(frames[i])
    while arrived < count:
        for fileno, _ in poll.poll():
            missing[fileno] -= len(receivers[fileno].recv(65536))
            if missing[fileno] == 0:
                arrived += 1
                missing[fileno] = size[fileno]
                if sent < count:
                    sent += 1
                    senders[index[fileno]].sendall(frames[index[fileno]])
    spent = relay.cpu() - before
    for peer in [*senders, *receivers.values()]:
        peer.close()
    return spent / count


def storm(relay: Relay, count: int) -> float:
    """Seconds of CPU until ``count`` peers that connect and join at once all see each other."""
    before = relay.cpu()
    peers = {peer.fileno(): peer for peer in (connect(relay) for _ in range(count))}
    joins = {fileno: frame({"type": "join", "peerId": f"peer-{fileno:05}"}) for fileno in peers}
    got = {fileno: bytearray() for fileno in peers}
    poll = select.epoll()
    for fileno, peer in peers.items():
        poll.register(fileno, select.EPOLLIN)
        peer.sendall(joins[fileno])
    incomplete = set(peers)
    while incomplete:
        for fileno, _ in poll.poll():
            got[fileno] += peers[fileno].recv(1 << 20)
            if got[fileno].count(b"peer-0") >= count - 1:
                incomplete.discard(fileno)
    spent = relay.cpu() - before
    everybody = {f"peer-{fileno:05}" for fileno in peers}
    for fileno, octets in got.items():
        seen = [octets[i : i + 10].decode() for i in find(octets, b"peer-0")]
        assert sorted(seen) == sorted(everybody - {f"peer-{fileno:05}"}), "a view is not complete"
    for peer in peers.values():
        peer.close()
    return spent


def find(octets: bytearray, what: bytes) -> Iterator[int]:
    at = octets.find(what)
    while at >= 0:
        yield at
        at = octets.find(what, at + 1)


OFFER: dict[str, object] = {"type": "offer", "sdp": SDP_LINE * 105}
TRICKLE: dict[str, object] = {
    "type": "candidate",
    "candidate": {"candidate": CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=20_000, help="routed a round")
    parser.add_argument("--peers", type=int, default=1_000, help="in the storm")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    loads: list[tuple[str, float, Callable[[Relay], float]]] = [
        (f"routed offer, {len(frame(OFFER)) / 1000:.1f} kB", 1e6, lambda relay: route(relay, OFFER, options.frames)),
        (f"routed candidate, {len(frame(TRICKLE))} B", 1e6, lambda relay: route(relay, TRICKLE, options.frames)),
        (f"join storm, {options.peers} peers", 1e3, lambda relay: storm(relay, options.peers)),
    ]
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, median of {options.rounds} rounds\n")
    print("| load | plain | ours | ratio |")
    print("|---|---|---|---|")
    for title, scale, load in loads:
        spent: dict[str, list[float]] = {name: [] for name in RELAYS}
        for _ in range(options.rounds):
            for name in RELAYS:
                with running(name) as relay:
                    spent[name].append(load(relay))
        plain, ours = statistics.median(spent["plain"]), statistics.median(spent["ours"])
        unit = "µs" if scale == 1e6 else "ms"
        print(
            f"| {title} | {plain * scale:.0f} {unit} | {ours * scale:.0f} {unit} | {ours / plain:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
