"""Clients for the relay's tests: one with the websockets library, and one by hand for what no library sends."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from server.relay import Relay, RelayConfig

DEADLINE = 10.0  # seconds; nothing here takes a tenth of it
ROOT = Path(__file__).resolve().parents[2]
OPENING = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


@asynccontextmanager
async def relay(**options: Any) -> AsyncIterator[Relay]:
    """A relay in this process, on a free port."""
    running = Relay(RelayConfig(port=0, close_timeout=options.pop("close_timeout", 0.5), **options))
    await running.start()
    try:
        yield running
    finally:
        await running.stop()


class Peer:
    """A client with the websockets library, which answers pings."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.id = ""

    async def send_message(self, type: str, to: str | None = None, **body: Any) -> None:
        await self.send({"type": type, "from": self.id} | ({} if to is None else {"to": to}) | body)

    async def send(self, body: Any) -> None:
        await self.ws.send(body if isinstance(body, str | bytes) else json.dumps(body))

    async def text(self) -> str:
        got = await asyncio.wait_for(self.ws.recv(), DEADLINE)
        assert isinstance(got, str)
        return got

    async def get(self) -> dict[str, Any]:
        body = json.loads(await self.text())
        assert isinstance(body, dict)
        return body

    async def closed(self) -> int:
        """Wait for the close, and return its code. Messages before it are dropped."""
        try:
            while True:
                await self.text()
        except ConnectionClosed as exc:
            return exc.rcvd.code if exc.rcvd else 1006

    async def barrier(self) -> None:
        """Check that the relay has sent nothing to this client up to now."""
        await self.send_message("offer", to="nobody")
        assert (await self.get())["code"] == "peer-not-found"


@asynccontextmanager
async def opened(relay: Relay) -> AsyncIterator[Peer]:
    async with connect(relay.url, ping_interval=None, max_size=None, max_queue=None) as ws:
        yield Peer(ws)


@asynccontextmanager
async def joined(relay: Relay, peer_id: str, *, peers: list[str] | None = None, **join: Any) -> AsyncIterator[Peer]:
    """A peer in the room. ``peers`` is the expected content of its list."""
    async with opened(relay) as peer:
        peer.id = peer_id
        await peer.send({"type": "join", "peerId": peer_id} | join)
        found = await peer.get()
        assert found["type"] == "peer-list", found
        if peers is not None:
            assert sorted(found["peers"]) == sorted(peers)
        yield peer


async def until(condition: Callable[[], bool]) -> None:
    """Run the event loop until ``condition``: for state of the relay that no message shows."""
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    return Frame(Opcode(opcode), payload, fin).serialize(mask=True)


def text(body: Any) -> bytes:
    return frame(1, body if isinstance(body, bytes) else json.dumps(body).encode())


class Raw:
    """A WebSocket by hand: sends any bytes, and answers nothing by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, port: int, *, receive_buffer: int | None = None) -> Raw:
        sock = socket.socket(proto=socket.IPPROTO_TCP)  # else Nagle's algorithm delays a second write by 40 ms
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        return cls(*await asyncio.open_connection(sock=sock))

    @classmethod
    async def open(cls, port: int, **options: Any) -> Raw:
        raw = await cls.connect(port, **options)
        raw.writer.write(OPENING)
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        return raw

    @classmethod
    async def join(
        cls, port: int, peer_id: str, *, key: str | None = None, room: str | None = None, **options: Any
    ) -> Raw:
        raw = await cls.open(port, **options)
        raw.writer.write(text({"type": "join", "peerId": peer_id, "key": key, "room": room}))
        assert (await raw.get())["type"] == "peer-list"
        return raw

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE)

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: opcode and payload."""
        async with asyncio.timeout(DEADLINE):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 15, await self.reader.readexactly(length)

    async def get(self) -> dict[str, Any]:
        """The next message; pings are skipped."""
        while (found := await self.frame())[0] == 9:
            pass
        assert found[0] == 1, found
        body = json.loads(found[1])
        assert isinstance(body, dict)
        return body

    async def closed(self) -> int:
        """Wait for the end, and return the close code, or 1006 without one. Data before it is dropped."""
        try:
            while (found := await self.frame())[0] != 8:
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return 1006
        return int.from_bytes(found[1][:2])

    def stall(self) -> None:
        """Stop reading."""
        self.writer.transport.pause_reading()  # type: ignore[attr-defined]

    def resume(self) -> None:
        self.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def rest(self) -> bytes:
        """Read everything up to the end."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE)

    def reset(self) -> None:
        """Close with a TCP reset, like a killed process."""
        connection = self.writer.get_extra_info("socket")
        if connection.fileno() >= 0:  # otherwise the other side was faster
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def end(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


class Process:
    """A relay in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def peak(self) -> int:
        """Maximum resident memory so far, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024


_PROGRAM = """
import asyncio, json, sys
from server.relay import RelayConfig
from server.run import serve
config = RelayConfig(**json.loads(sys.argv[1]))
asyncio.run(serve(config, started=lambda relay: print(relay.port, flush=True)))
"""


@contextmanager
def process(source: Path = ROOT, **options: Any) -> Iterator[Process]:
    """A relay in a process of its own, with ``options`` of ``RelayConfig``. Killed unless the test has ended it.

    Args:
        source: folder of the packages; another one for another version.
    """
    command = [sys.executable, "-c", _PROGRAM, json.dumps({"port": 0} | options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=source) as running:
        try:
            assert running.stdout is not None
            yield Process(running, int(running.stdout.readline()))
        finally:
            if running.poll() is None:
                running.kill()


async def join_crowd(peers: Sequence[Raw], names: Sequence[str]) -> None:
    """Let all ``peers`` join at once as ``names`` (``id-000``, …), and check that each learns of each other once."""

    async def view(peer: Raw, name: str) -> list[str]:
        peer.writer.write(text({"type": "join", "peerId": name}))
        got = b""
        async with asyncio.timeout(2 * DEADLINE):
            while got.count(b"id-") < len(names) - 1:
                got += await peer.reader.read(1 << 16)
        return re.findall(r"id-\d{3}", got.decode(errors="replace"))

    views = await asyncio.gather(*map(view, peers, names))
    for name, seen in zip(names, views, strict=True):
        assert sorted([*seen, name]) == list(names), "a peer is missing or reported twice"
