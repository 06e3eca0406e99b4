"""The old server runs, unchanged, and still has the habits that ours must do without."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.legacy import go_server

pytestmark = pytest.mark.legacy


async def join(socket: ClientConnection, peer: str) -> dict[str, Any]:
    await socket.send(json.dumps({"type": "join", "peerId": peer}))
    return await receive(socket)


async def receive(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        message: dict[str, Any] = json.loads(await socket.recv())
        return message


async def test_routes_frames_as_they_are_and_tells_who_comes_and_goes() -> None:
    with go_server() as url:
        async with connect(url) as a:
            assert await join(a, "a") == {"type": "peer-list"}, "without peers, as the old page found out"
            async with connect(url) as b:
                assert await join(b, "b") == {"type": "peer-list", "peers": ["a"]}
                assert await receive(a) == {"type": "peer-joined", "peerId": "b"}
                frame = '{"to":"a", "from" :"b","type":"hang-up","reason":"hang-up"}'
                await b.send(frame)
                assert await a.recv() == frame
            assert await receive(a) == {"type": "peer-left", "peerId": "b"}


async def test_two_run_at_once_and_do_not_see_each_other() -> None:
    """Both listen on port 8080, each in a namespace of its own."""
    with go_server() as one, go_server() as two:
        async with connect(one) as a, connect(two) as b:
            assert await join(a, "a") == await join(b, "b") == {"type": "peer-list"}


async def test_is_gone_when_it_is_left() -> None:
    with go_server() as url:
        async with connect(url) as a:
            await join(a, "a")
    with pytest.raises(OSError):
        await connect(url)
