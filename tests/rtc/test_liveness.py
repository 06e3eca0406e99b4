"""Count of received datagrams, and the reason why a transport closed."""

from __future__ import annotations

from peer.rtc.liveness import Liveness
from tests.rtc.loopback import ice_connection, loopback
from tests.waiting import until


async def test_liveness_counts_datagrams_and_detects_a_remote_close() -> None:
    async with loopback() as pair:
        live = Liveness(pair.near)
        before = live.datagrams
        await pair.send_until(lambda: live.datagrams > before)
        assert not live.closed_by_remote
        await pair.far.close()
        await until(lambda: pair.near.getTransceivers()[0].receiver.transport.state == "closed")
        assert live.closed_by_remote


async def test_liveness_after_local_close_reports_no_remote_close() -> None:
    async with loopback() as pair:
        live = Liveness(pair.near)
        await ice_connection(pair.near).close()
        await until(lambda: pair.near.getTransceivers()[0].receiver.transport.state == "closed")
        assert not live.closed_by_remote
