"""A signaling client whose events a test awaits, and scripted servers for it."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from websockets.asyncio.server import Server, ServerConnection, serve

from peer.signaling import messages
from peer.signaling.client import SignalingClient, SignalingEvent

EMPTY = json.dumps({"type": "peer-list", "peers": []})
Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def server(handler: Handler, port: int = 0) -> AsyncIterator[tuple[Server, str]]:
    async with serve(handler, "127.0.0.1", port) as made:
        yield made, f"ws://127.0.0.1:{made.sockets[0].getsockname()[1]}/ws"


async def empty_room(socket: ServerConnection) -> None:
    """Admit the client to a room without other peers, and keep the connection open."""
    await socket.recv()
    await socket.send(EMPTY)
    await socket.wait_closed()


class Client:
    """A SignalingClient whose events are put into a queue."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None, **extra: str) -> None:
        self.events: asyncio.Queue[SignalingEvent] = asyncio.Queue()
        self.signaling = SignalingClient(url, messages.Join("me", **extra), self.events.put_nowait, tls=tls)

    async def __aenter__(self) -> Client:
        self._task = asyncio.ensure_future(self.signaling.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def next(self, kind: type[SignalingEvent]) -> SignalingEvent:
        async with asyncio.timeout(5):
            while True:
                event = await self.events.get()
                if isinstance(event, kind):
                    return event
