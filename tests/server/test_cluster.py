"""Three real relays, a real Redis, and real sockets between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from server.relay import Relay
from tests.redis_server import RedisServer

from .wire import joined, relay

Trio = tuple[Relay, Relay, Relay]


@pytest.fixture
async def trio(ledger_redis: RedisServer) -> AsyncIterator[Trio]:
    async with AsyncExitStack() as stack:
        one, two, three = [
            await stack.enter_async_context(relay(cluster=ledger_redis.url, cluster_lease=3.0)) for _ in range(3)
        ]
        yield one, two, three


async def test_peers_of_three_relays_are_in_one_room(trio: Trio) -> None:
    one, two, three = trio
    async with joined(one, "A", peers=[]) as a, joined(two, "B", peers=["A"]) as b:
        assert await a.get() == {"type": "peer-joined", "peerId": "B"}
        async with joined(three, "C", peers=["A", "B"]) as c:
            assert await a.get() == await b.get() == {"type": "peer-joined", "peerId": "C"}
            await c.say("offer", to="A", sdp="x")
            assert (await a.get())["sdp"] == "x"
            await a.say("wave")
            assert (await b.get())["type"] == (await c.get())["type"] == "wave"
        assert await a.get() == await b.get() == {"type": "peer-left", "peerId": "C"}
