"""A link emulator: a rate limit and a queue between one peer and all others.

    async with LinkEmulator(relay_url) as link:      # the peer joins at link.url instead of relay_url
        link.rate = 300_000                     # bit/s towards that peer; None: unlimited

It intercepts the signaling and puts its own address into each description, so that media passes through it too, as
datagrams in user space, for any engine or browser at either end. All reports and requests (RTCP, ICE checks) are
those of the endpoints.

A datagram that would wait longer than ``queue`` is dropped, as in a router with a full buffer. The direction from
the peer is not limited.
"""

from __future__ import annotations

import asyncio
import json
import re
from types import TracebackType
from typing import Any, Final, cast

import aioice.ice
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

HEADERS: Final = 28
"""Bytes of IPv4 and UDP headers per datagram."""

_CANDIDATE: Final = re.compile(r"^a=candidate:(?:\S+) 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host", re.M | re.I)
_CANDIDATES: Final = re.compile(r"^a=(?:candidate:.*|end-of-candidates)\r?\n", re.M)

Address = tuple[str, int]


class Direction:
    """One direction with a rate in bit/s and a queue of ``queue`` seconds."""

    def __init__(self, queue: float) -> None:
        self.rate: float | None = None
        self.queue = queue
        self.passed = 0
        self.dropped = 0
        self._free_at = 0.0

    def send(self, data: bytes, socket: asyncio.DatagramTransport, to: Address) -> None:
        if self.rate is None:
            self.passed += 1
            socket.sendto(data, to)
            return
        loop = asyncio.get_running_loop()
        begins = max(loop.time(), self._free_at)
        if begins - loop.time() > self.queue:
            self.dropped += 1
            return
        self.passed += 1
        self._free_at = begins + (len(data) + HEADERS) * 8 / self.rate
        loop.call_at(self._free_at, self._leave, data, socket, to)

    @staticmethod
    def _leave(data: bytes, socket: asyncio.DatagramTransport, to: Address) -> None:
        if not socket.is_closing():
            socket.sendto(data, to)


class _Endpoint(asyncio.DatagramProtocol):
    """A socket that represents the remote to one side. It forwards to ``other``, which sends by its ``direction``."""

    def __init__(self, direction: Direction) -> None:
        self.remote: Address | None = None
        """The address of this side: from its description, else the first sender."""
        self.other: _Endpoint | None = None
        self._direction = direction

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, source: Address) -> None:
        if self.remote is None:
            self.remote = source
        if self.other is not None and self.other.remote is not None:
            self.other.forward(data)

    def forward(self, data: bytes) -> None:
        assert self.remote is not None
        self._direction.send(data, self.transport, self.remote)


class LinkEmulator:
    """The emulator; see the module."""

    def __init__(self, server: str, queue: float = 0.3) -> None:
        self.limited = Direction(queue)
        """The direction to the limited peer, with its counters."""
        self._unlimited = Direction(0.0)
        self._server = server
        self._host = next((a for a in aioice.ice.get_host_addresses(use_ipv4=True, use_ipv6=False)), "127.0.0.1")
        self._pairs: dict[str, tuple[_Endpoint, _Endpoint]] = {}
        self._all: list[_Endpoint] = []
        self._listener: Server | None = None

    @property
    def rate(self) -> float | None:
        return self.limited.rate

    @rate.setter
    def rate(self, rate: float | None) -> None:
        self.limited.rate = rate

    @property
    def url(self) -> str:
        """The URL at which the limited peer joins."""
        assert self._listener is not None
        port = next(iter(self._listener.sockets)).getsockname()[1]
        return f"ws://127.0.0.1:{port}/ws"

    async def __aenter__(self) -> LinkEmulator:
        self._listener = await serve(self._intercept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        await self._listener.wait_closed()
        for end in self._all:
            end.transport.close()

    # --- signaling ---

    async def _intercept(self, near: ServerConnection) -> None:
        async with connect(self._server) as far, asyncio.TaskGroup() as group:
            group.create_task(self._pass(near, far, to_near=False))
            group.create_task(self._pass(far, near, to_near=True))

    async def _pass(self, source: Any, target: Any, *, to_near: bool) -> None:
        try:
            async for text in source:
                message = json.loads(text)
                if message.get("type") == "candidate":
                    continue  # our address is in the description
                if message.get("type") in ("offer", "answer"):
                    text = json.dumps(message | {"sdp": await self._describe(message, to_near)})
                await target.send(text)
        except ConnectionClosed:
            pass
        finally:
            await target.close()

    async def _describe(self, message: dict[str, Any], to_near: bool) -> str:
        """Replace the candidates in a description with the socket that represents its sender."""
        sdp: str = message["sdp"]
        remote = message["from" if to_near else "to"]
        if message["type"] == "offer" or remote not in self._pairs:
            self._pairs[remote] = await self._open()
        near, far = self._pairs[remote]
        sender, shown = (far, near) if to_near else (near, far)
        if (named := _CANDIDATE.search(sdp)) is not None:
            sender.remote = (named[1], int(named[2]))
        port = shown.transport.get_extra_info("sockname")[1]
        candidate = f"a=candidate:1 1 udp 2130706431 {self._host} {port} typ host\r\n"
        head, media, *rest = re.split(r"^(?=m=)", _CANDIDATES.sub("", sdp), flags=re.M)
        return "".join((head, media, candidate, *rest))

    async def _open(self) -> tuple[_Endpoint, _Endpoint]:
        """Open a pair of sockets: one for the limited peer, one for the other side."""
        loop = asyncio.get_running_loop()
        ends = []
        for direction in (self.limited, self._unlimited):
            _, end = await loop.create_datagram_endpoint(lambda: _Endpoint(direction), (self._host, 0))  # noqa: B023
            ends.append(end)
        near, far = ends
        near.other, far.other = far, near
        self._all += ends
        return near, far
