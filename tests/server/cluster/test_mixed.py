"""A cluster of two versions during an upgrade: a released relay and ours, as processes, with one real Redis."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.redis_server import RedisServer
from tests.released import released

from ..wire import ROOT, Peer, Process, process

NEW, OLD = 0, 1


@contextmanager
def versions(redis: RedisServer) -> Iterator[tuple[Process, Process]]:
    """Our relay, and a released one."""
    options: dict[str, Any] = {"cluster": redis.url, "cluster_lease": 5.0, "grace": 5.0}
    with process(ROOT, **options) as new, process(released(), **options) as old:
        yield new, old


@asynccontextmanager
async def client(relay: Process, peer_id: str, **join: Any) -> AsyncIterator[tuple[Peer, dict[str, Any]]]:
    """A peer in the room, and its list."""
    async with connect(f"ws://127.0.0.1:{relay.port}/ws", ping_interval=None) as socket:
        peer = Peer(socket)
        peer.id = peer_id
        await peer.send({"type": "join", "peerId": peer_id} | join)
        found = await peer.get()
        assert found.pop("type") == "peer-list", found
        yield peer, found


async def check_route(one: Peer, other: Peer) -> None:
    """Check that messages pass both ways, and that nothing else has arrived before them."""
    for sender, receiver in ((one, other), (other, one)):
        await sender.send_message("offer", to=receiver.id, sdp="v=0")
        assert await receiver.get() == {"type": "offer", "from": sender.id, "to": receiver.id, "sdp": "v=0"}


async def test_mixed_cluster_has_complete_views_and_routes(ledger_redis: RedisServer) -> None:
    with versions(ledger_redis) as (new, old):
        async with client(new, "a", instance="1") as (a, _), client(old, "b", instance="1") as (b, seen):
            assert seen == {"peers": ["a"]}
            assert await a.get() == {"type": "peer-joined", "peerId": "b"}
            async with client(new, "c", instance="1") as (c, seen):
                assert seen == {"peers": ["a", "b"], "instances": {"a": "1"}}
                assert await a.get() == {"type": "peer-joined", "peerId": "c", "instance": "1"}
                assert await b.get() == {"type": "peer-joined", "peerId": "c"}
                async with client(old, "d") as (d, seen):
                    assert sorted(seen["peers"]) == ["a", "b", "c"]
                    for peer in (a, b, c):
                        assert await peer.get() == {"type": "peer-joined", "peerId": "d"}
                    await check_route(a, b)
                    await check_route(c, d)
                for peer in (a, b, c):
                    assert await peer.get() == {"type": "peer-left", "peerId": "d"}
            for peer in (a, b):
                assert await peer.get() == {"type": "peer-left", "peerId": "c"}
            await a.send_message("offer", to="c")
            assert (await a.get())["code"] == "peer-not-found"


@pytest.mark.parametrize("path", [(NEW, OLD), (OLD, NEW), (NEW, OLD, NEW)])
async def test_seat_moves_unnoticed_between_versions(ledger_redis: RedisServer, path: tuple[int, ...]) -> None:
    with versions(ledger_redis) as relays:
        async with client(relays[NEW], "x") as (x, _), client(relays[OLD], "y") as (y, _), AsyncExitStack() as stack:
            assert (await x.get())["peerId"] == "y"
            holder, _ = await stack.enter_async_context(client(relays[path[0]], "a", key="k", instance="1"))
            assert (await x.get())["peerId"] == (await y.get())["peerId"] == "a"
            for which in path[1:]:
                a, seen = await stack.enter_async_context(client(relays[which], "a", key="k", instance="1"))
                assert sorted(seen["peers"]) == ["x", "y"]
                assert await holder.closed() == 4001
                await check_route(a, x)
                await check_route(y, a)
                holder = a


@pytest.mark.parametrize("where", [NEW, OLD])
async def test_messages_wait_for_a_peer_that_changes_the_version(ledger_redis: RedisServer, where: int) -> None:
    with versions(ledger_redis) as relays:
        async with client(relays[NEW], "x") as (x, _), client(relays[OLD], "y") as (y, _):
            assert (await x.get())["peerId"] == "y"
            async with client(relays[where], "a", key="k", instance="1") as (a, _):
                assert (await x.get())["peerId"] == (await y.get())["peerId"] == "a"
                a.ws.transport.abort()
                await check_route(x, y)  # its relay has noticed
                await x.send_message("offer", to="a", n=1)
                await y.send_message("offer", to="a", n=1)
                await check_route(x, y)  # both have been routed
                async with client(relays[1 - where], "a", key="k", instance="1") as (back, _):
                    got = [await back.get(), await back.get()]
                    assert sorted(message["from"] for message in got) == ["x", "y"]
                    await check_route(back, x)
                    await check_route(back, y)


async def test_restarted_process_is_seen_at_both_versions(ledger_redis: RedisServer) -> None:
    with versions(ledger_redis) as (new, old):
        async with client(new, "x") as (x, _), client(old, "y") as (y, _):
            assert (await x.get())["peerId"] == "y"
            async with client(new, "a", key="k", instance="1") as (first, _):
                assert (await x.get())["peerId"] == (await y.get())["peerId"] == "a"
                async with client(new, "a", key="k", instance="2") as (second, _):
                    assert await first.closed() == 4001
                    assert await x.get() == await y.get() == {"type": "peer-left", "peerId": "a"}
                    assert await x.get() == {"type": "peer-joined", "peerId": "a", "instance": "2"}
                    assert await y.get() == {"type": "peer-joined", "peerId": "a"}
                    await check_route(second, x)
                    await check_route(second, y)


@pytest.mark.parametrize("stops", [NEW, OLD])
async def test_stopping_relay_entrusts_its_seats_to_the_other(ledger_redis: RedisServer, stops: int) -> None:
    with versions(ledger_redis) as relays:
        stays = relays[1 - stops]
        async with client(stays, "x") as (x, _), client(relays[stops], "a", key="k", instance="1") as (a, _):
            assert (await x.get())["peerId"] == "a"
            relays[stops].process.send_signal(signal.SIGTERM)
            assert await a.closed() == 1001
            await x.send_message("offer", to="a", n=1)
            async with client(stays, "a", key="k", instance="1") as (back, seen):
                assert seen["peers"] == ["x"]
                assert (await back.get())["n"] == 1
                await check_route(back, x)
