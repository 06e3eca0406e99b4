"""One ICE session: candidates of another session are dropped, and gathering ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aioice import Candidate, Connection

from peer.rtc.ice_session import IceSession
from peer.rtc.sdp import IceParameters
from peer.signaling.ice_servers import parse_ice_server
from peer.signaling.messages import IceCandidate
from tests.waiting import until

LINE = "candidate:1 1 udp 1 192.0.2.1 {} typ host"


@asynccontextmanager
async def session(*servers: str) -> AsyncIterator[tuple[IceSession, list[IceCandidate]]]:
    """Yield a session, and the list of its posted candidates."""
    posted: list[IceCandidate] = []
    connection = Connection(ice_controlling=False)
    async with asyncio.TaskGroup() as tasks:
        parsed = [parse_ice_server(server) for server in servers]
        opened = IceSession(connection, parsed, relay_only=False, post=posted.append, tasks=tasks)
        try:
            yield opened, posted
        finally:
            await opened.settle()
            await connection.close()


@pytest.mark.parametrize(
    ("fragment", "extension", "is_added"),
    [
        (None, "", True),
        ("now", "", True),
        ("old", "", False),
        (None, " ufrag now", True),
        (None, " ufrag old", False),
    ],
)
async def test_candidate_of_another_session_is_dropped(fragment: str | None, extension: str, is_added: bool) -> None:
    async with session() as (opened, _):
        opened.remote = IceParameters("now", "password")
        opened.add_remote(IceCandidate(LINE.format(1) + extension, "0", 0, fragment))
        opened.add_remote(IceCandidate(LINE.format(2), "0", 0))
        await until(lambda: opened.connection.remote_candidates)
        ports = {candidate.port for candidate in opened.connection.remote_candidates}
        assert ports == ({1, 2} if is_added else {2})


async def test_own_candidates_have_the_fragment_of_the_session() -> None:
    async with session() as (opened, posted):
        opened.local.add(Candidate.from_sdp("1 1 udp 1 192.0.2.1 9 typ host"))
        opened.local.description_posted()
        assert [one.username_fragment for one in posted] == [opened.connection.local_username]


async def test_settle_ends_gathering_from_a_silent_server() -> None:
    async with session("stun:192.0.2.1:9") as (opened, _):
        await opened.gather()
        assert opened.connection.local_candidates
        await opened.settle()
        await until(opened._gathering.done)
        assert opened._gathering.cancelled()
