"""ICE restart under a live DTLS association, between two real engines, and its contracts with aiortc and aioice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from peer.rtc import aiortc_hooks, ice_transport
from peer.rtc.ice_transport import IceTransport
from peer.rtc.sdp import IceParameters
from tests.rtc.loopback import Loopback, loopback
from tests.waiting import until


def _transport(connection: Any) -> IceTransport:
    return IceTransport.of(connection.getTransceivers()[0].receiver.transport)


def _parameters(connection: Any) -> IceParameters:
    return IceParameters(connection.local_username, connection.local_password)


class Restart:
    """A restart at both ends of ``pair``, step by step: ``begin``, ``connect``."""

    def __init__(self, pair: Loopback) -> None:
        self.ends = (_transport(pair.near), _transport(pair.far))
        self.old = [end.connection for end in self.ends]
        self.new = [end.new_connection() for end in self.ends]
        self.tasks: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        """Gather, and put the new connections into the next descriptions."""
        for end, connection in zip(self.ends, self.new, strict=True):
            await connection.gather_candidates()
            end.begin_restart(connection)

    async def connect(self, *, reachable: bool = True) -> None:
        """Exchange credentials, and candidates if ``reachable``; start to connect."""
        for end, connection, other in zip(self.ends, self.new, reversed(self.new), strict=True):
            if reachable:
                for candidate in other.local_candidates:
                    await connection.add_remote_candidate(candidate)
            restarting = end.complete_restart(connection, _parameters(other))
            self.tasks.append(asyncio.get_running_loop().create_task(restarting))

    async def connected(self) -> None:
        """Wait until both ends use their new connections."""
        await until(lambda: all(end.connection is new for end, new in zip(self.ends, self.new, strict=True)))

    async def finished(self) -> None:
        """Wait until the replaced connections are closed."""
        await asyncio.gather(*self.tasks)


@asynccontextmanager
async def restarting() -> AsyncIterator[tuple[Loopback, Restart]]:
    """Connect a loopback whose video is being received, and prepare a restart."""
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        restart = Restart(pair)
        try:
            yield pair, restart
        finally:
            for task in restart.tasks:
                task.cancel()
            await asyncio.gather(*restart.tasks, return_exceptions=True)
            for end in restart.ends:
                await end.close()


@pytest.fixture(autouse=True)
def no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_transport, "LINGER", 0.2)


async def test_restart_replaces_the_connection_and_keeps_dtls() -> None:
    async with restarting() as (pair, restart):
        dtls = [connection.getTransceivers()[0].receiver.transport for connection in (pair.near, pair.far)]
        keys = [(one._rx_srtp, one._tx_srtp, one._ssl) for one in dtls]
        await restart.begin()
        await restart.connect()
        await restart.connected()
        await pair.receive_frames(10)
        await restart.finished()
        await pair.receive_frames(10)
        assert keys == [(one._rx_srtp, one._tx_srtp, one._ssl) for one in dtls]
        assert all(old._closed and not old._protocols for old in restart.old)
        assert pair.near.connectionState == pair.far.connectionState == "connected"


async def test_restart_makes_no_gap_in_the_video() -> None:
    """0.5 s is for a busy machine; on a quiet one, it is 25 ms at most, with a frame per 20 ms."""
    async with restarting() as (pair, restart):
        reader = pair.media.encoded.read(1000)
        await pair.receive_frames(10)
        await restart.begin()
        await restart.connect()
        await pair.send_until(lambda: all(task.done() for task in restart.tasks))
        await pair.receive_frames(10)
        arrivals = []
        while (frame := reader.get_nowait()) is not None:
            arrivals.append(frame.arrival)
            assert not frame.gap
        gap = max(after - before for before, after in itertools.pairwise(arrivals))
        assert gap < 0.5, f"{gap * 1000:.0f} ms in {len(arrivals)} frames"


async def test_dtls_messages_pass_after_a_restart() -> None:
    """The engine's pending receive, which began on the old connection, continues with the new one."""
    async with restarting() as (pair, restart):
        await restart.begin()
        await restart.connect()
        await restart.finished()
        dtls: Any = pair.far.getTransceivers()[0].sender.transport
        received: list[bytes] = []

        class Receiver:
            async def _handle_data(self, data: bytes) -> None:
                received.append(data)

        near: Any = pair.near.getTransceivers()[0].receiver.transport
        near._register_data_receiver(Receiver())
        await dtls._send_data(b"after the restart")
        await until(lambda: received == [b"after the restart"])


async def test_old_connection_receives_until_the_new_one_connects() -> None:
    async with restarting() as (pair, restart):
        await restart.begin()
        await pair.receive_frames(10)
        assert [end.connection for end in restart.ends] == restart.old
        assert [end.newest for end in restart.ends] == restart.new
        local = pair.near.getTransceivers()[0].receiver.transport.transport.iceGatherer.getLocalParameters()
        assert local.usernameFragment == restart.new[0].local_username


async def test_second_restart_during_the_first_wins() -> None:
    async with restarting() as (pair, first):
        await first.begin()
        await first.connect(reachable=False)
        second = Restart(pair)
        assert second.old == first.old
        await second.begin()
        await second.connect()
        await second.connected()
        await asyncio.gather(second.finished(), first.finished())
        await pair.receive_frames(10)
        assert all(one._closed for one in (*first.old, *first.new))
        assert [end._connecting for end in second.ends] == [{new} for new in second.new]
        assert pair.near.connectionState == "connected"


async def test_second_restart_after_the_first_wins() -> None:
    async with restarting() as (pair, first):
        await first.begin()
        await first.connect()
        await first.connected()
        second = Restart(pair)
        assert second.old == first.new
        await second.begin()
        await second.connect()
        await second.connected()
        await asyncio.gather(second.finished(), first.finished())
        await pair.receive_frames(10)
        assert all(one._closed for one in (*first.old, *first.new))


async def test_restart_that_does_not_connect_fails_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice_transport, "RESTART_TIMEOUT", 0.2)
    async with restarting() as (pair, restart):
        await restart.begin()
        await restart.connect(reachable=False)
        await until(lambda: pair.near.connectionState in ("failed", "closed"))
        await restart.finished()
        assert all(one._closed for one in (*restart.old, *restart.new))


async def test_close_during_a_restart_releases_all_sockets() -> None:
    async with restarting() as (pair, restart):
        await restart.begin()
        await restart.connect(reachable=False)
        for task in restart.tasks:
            task.cancel()
        for end in restart.ends:
            await end.close()
        assert all(one._closed and not one._protocols for one in restart.new)
        await asyncio.gather(pair.near.close(), pair.far.close())
        assert all(one._closed and not one._protocols for one in restart.old)


async def test_lost_connection_after_a_restart_fails_the_transport() -> None:
    """The engine's wait for the end of the old connection was handed to the new one."""
    async with restarting() as (pair, restart):
        await restart.begin()
        await restart.connect()
        await restart.finished()
        assert pair.near.connectionState == "connected"
        await restart.new[0].close()
        await until(lambda: pair.near.connectionState in ("failed", "closed"))


async def test_consent_is_checked_on_the_new_connection() -> None:
    async with restarting() as (_, restart):
        await restart.begin()
        await restart.connect()
        await restart.finished()
        for old, new in zip(restart.old, restart.new, strict=True):
            assert old._query_consent_task.done()
            assert not new._query_consent_task.done()
            assert new.ice_controlling is old.ice_controlling


async def test_connection_that_never_connected_is_replaced_at_once() -> None:
    """The engine may wait for its end already, or only begin to."""
    pc: Any = aiortc_hooks.open_peer_connection()
    pc.addTransceiver("audio")
    end = _transport(pc)
    old = end.connection
    waiting = asyncio.get_running_loop().create_task(old.get_event())
    await until(lambda: old._event_waiter is not None)
    connections = [old]
    for _ in range(3):
        connection = end.new_connection()
        end.begin_restart(connection)
        assert end.connection is end.newest is connection
        connections.append(connection)
    await end.close()
    assert [one._closed for one in connections] == [True] * 3 + [False]
    assert not waiting.done()
    await pc.close()
    await waiting


async def test_waiting_datagrams_are_bounded() -> None:
    async with loopback() as pair:
        end = _transport(pair.near)
        for _ in range(3 * ice_transport.MAX_QUEUED):
            end.receive(b"\x16")
        assert end._queue.qsize() <= ice_transport.MAX_QUEUED
        await pair.send_until(lambda: pair.first_frames)
