"""Shared by the relay benchmarks: relays as processes, and a load generator (the swarm) that uses little CPU itself.

Everything runs in a separate network namespace (``isolate``), because the old Go server always listens on port 8080
of all addresses. If there are two cores, the relay gets one and the swarm the other.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import HERE, PEER
from websockets.frames import Frame, Opcode

SDP_LINE = "a=rtpmap:111 opus/48000/2\r\n"
CANDIDATE = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0"
OFFER: dict[str, object] = {"type": "offer", "sdp": SDP_LINE * 105}
TRICKLE: dict[str, object] = {
    "type": "candidate",
    "candidate": {"candidate": CANDIDATE, "sdpMid": "0", "sdpMLineIndex": 0},
}

PING = b"\x89\x00"
"""A ping of our relay. Nothing else that the swarm receives contains it: only ASCII and text frame headers."""
PONG = Frame(Opcode.PONG, b"").serialize(mask=True)
OPENING = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BATCH = 100
"""Peers that connect and join before the swarm reads again."""
STARTING = 20.0
"""Maximum start time of a relay, in seconds."""

SERVER_CORE, SWARM_CORE = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))


def isolate() -> None:
    """Continue in a network namespace with only loopback, on the swarm's core, with the maximum of descriptors.

    Where no namespace can be made, as in some containers, continue in the network of this machine and say so.
    """
    if os.environ.get("SWARM") is None:
        for flags in (("--map-root-user", "--net"), ("--net",)):
            unshare = ("unshare", *flags, "--")
            if subprocess.run((*unshare, "true"), stderr=subprocess.DEVNULL).returncode == 0:
                inside = (*unshare, sys.executable, *sys.orig_argv[1:])
                os.execvpe(inside[0], inside, os.environ | {"SWARM": "isolated"})
        print("no network namespace can be made here; using the network of this machine", file=sys.stderr)
        os.environ["SWARM"] = "shared"
    if os.environ["SWARM"] == "isolated":
        _raise_loopback()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    os.sched_setaffinity(0, {SWARM_CORE})
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and the relays end with us


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sh14x", b"lo", 0x1))  # netdevice(7): SIOCSIFFLAGS, IFF_UP


# --- relays ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Relay:
    """A running relay."""

    pid: int
    port: int

    def cpu(self) -> float:
        """Return the CPU time so far in seconds: user and system, all threads."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def _of_event(line: str) -> int:
    return int(json.loads(line)["url"].rpartition(":")[2].partition("/")[0])


@functools.cache
def _go() -> str:
    code = "from tests.legacy import old_server; print(old_server())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE.parent, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


@contextmanager
def process(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a child on the relay's core; killed at the end, because a shutdown with 10,000 peers is not of interest."""
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=HERE.parent,
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    ) as child:
        try:
            yield child
        finally:
            child.kill()


@contextmanager
def ours(*options: str) -> Iterator[Relay]:
    """Run ``peer serve`` with its defaults and ``options``."""
    with process((sys.executable, *PEER, "serve", "--port", "0", "--json", "-qq", *options)) as child:
        assert child.stdout is not None
        yield Relay(child.pid, _of_event(child.stdout.readline()))


@contextmanager
def plain() -> Iterator[Relay]:
    """Run plain_relay.py. It sends no pings."""
    with process((sys.executable, str(HERE / "plain_relay.py"))) as child:
        assert child.stdout is not None
        yield Relay(child.pid, int(child.stdout.readline()))


@contextmanager
def go() -> Iterator[Relay]:
    """Run the old Go server of tests/legacy, built once. It sends no pings and has only one room."""
    with process((_go(),)) as child:
        wait_for_port(8080)
        yield Relay(child.pid, 8080)


RELAYS = {"plain": plain, "go": go, "ours": ours}


def wait_for_port(port: int) -> None:
    """Wait until the port accepts connections."""
    deadline = time.monotonic() + STARTING
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


# --- peers ----------------------------------------------------------------------------------------------------


def frame(body: object) -> bytes:
    """Return a complete text frame as a client sends it."""
    return Frame(Opcode.TEXT, json.dumps(body, separators=(",", ":")).encode()).serialize(mask=True)


def unmasked(data: bytes) -> int:
    """Return the size of a client's frame after the relay has forwarded it."""
    return len(data) - 4


class Peer:
    """A WebSocket connection and its id."""

    __slots__ = ("fd", "id", "partner", "socket")

    def __init__(self, port: int, id: str) -> None:
        self.id = id
        self.partner = self
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self.socket.fileno()
        self.socket.sendall(OPENING)

    def opened(self) -> None:
        """Read the response to the opening handshake; nothing follows it before the join."""
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self.socket.recv(4096)
        assert answer.startswith(b"HTTP/1.1 101"), answer[:80]


class Swarm:
    """Peers in this process, read by one epoll."""

    def __init__(self) -> None:
        self.peers: dict[int, Peer] = {}
        self.poll = select.epoll()
        self._room = memoryview(bytearray(1 << 20))

    def __enter__(self) -> Swarm:
        return self

    def __exit__(self, *exc: object) -> None:
        self.poll.close()
        for peer in self.peers.values():
            peer.socket.close()

    def connect(self, port_of: Callable[[int], int], count: int) -> list[Peer]:
        """Connect ``count`` more peers, number N to ``port_of(N)``: handshake done, not joined."""
        known = len(self.peers)
        fresh = [Peer(port_of(number), f"peer-{number:05}") for number in range(known, known + count)]
        for peer in fresh:
            peer.opened()
            self.peers[peer.fd] = peer
            self.poll.register(peer.fd, select.EPOLLIN)
        return fresh

    def join(self, port_of: Callable[[int], int], count: int, room_size: int, quiet: float = 1.0) -> None:
        """Join ``count`` (even) peers in rooms of ``room_size``; return after ``quiet`` seconds without a notice.

        Peers 0 and 1 are partners, 2 and 3, and so on.
        """
        while (known := len(self.peers)) < count:
            fresh = self.connect(port_of, min(BATCH, count - known))
            for place, peer in enumerate(fresh):
                peer.partner = fresh[place ^ 1]
                room = f"room-{(known + place) // room_size}"
                peer.socket.sendall(frame({"type": "join", "peerId": peer.id, "room": room}))
            unanswered = {peer.fd for peer in fresh}
            while unanswered:
                unanswered.difference_update(self._take(None))
        self.read(quiet)

    def receive(self, fd: int) -> bytes:
        """Read available data of a peer; pings are answered and removed."""
        peer = self.peers[fd]
        data = bytes(self._room[: peer.socket.recv_into(self._room)])
        if not data:
            raise RuntimeError(f"the relay closed {peer.id}")
        if PING in data:
            peer.socket.sendall(PONG)
            data = data.replace(PING, b"")
        return data

    def read(self, quiet: float, at_least: float = 0.0) -> None:
        """Discard data until only pings arrived for ``quiet`` seconds."""
        until = time.monotonic() + max(quiet, at_least)
        while (left := until - time.monotonic()) > 0:
            if self._take(left):
                until = max(until, time.monotonic() + quiet)

    def _take(self, timeout: float | None) -> list[int]:
        """Discard available data; return the peers that received more than a ping."""
        return [fd for fd, _ in self.poll.poll(timeout) if self.receive(fd)]
