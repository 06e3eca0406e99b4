"""Keepalive: one ping per client and interval, and few per turn of the event loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from server.transport.connection import Client
from server.transport.keepalive import Keepalive
from tests.waiting import until


async def test_pings_of_simultaneous_joins_are_spread() -> None:
    turns: list[Sequence[Client]] = []
    keepalive = Keepalive(0.05, turns.append)
    clients = [cast(Client, object()) for _ in range(100)]
    for client in clients:
        keepalive.add(client)
    keepalive.remove(clients[50])
    await until(lambda: sum(map(len, turns)) >= 99)
    keepalive.stop()
    assert max(map(len, turns)) == 32
    assert [client for turn in turns for client in turn][:99] == clients[:50] + clients[51:]


async def test_second_ping_follows_after_one_interval() -> None:
    turns: list[Sequence[Client]] = []
    keepalive = Keepalive(0.02, turns.append)
    client = cast(Client, object())
    keepalive.add(client)
    await until(lambda: len(turns) == 3)
    keepalive.stop()
    assert turns[:3] == [[client]] * 3
