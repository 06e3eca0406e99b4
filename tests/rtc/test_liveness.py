"""Count of received datagrams, and the reason why a transport closed."""

from __future__ import annotations

from peer.rtc import aiortc_hooks
from peer.rtc.liveness import Liveness
from tests.rtc.loopback import loopback
from tests.waiting import until


async def test_liveness_counts_datagrams_and_detects_a_remote_close() -> None:
    async with loopback() as made:
        live = Liveness(made.near)
        before = live.datagrams
        await made.send_until(lambda: live.datagrams > before)
        assert not live.closed_by_remote
        await made.far.close()
        await until(lambda: made.near.getTransceivers()[0].receiver.transport.state == "closed")
        assert live.closed_by_remote


async def test_liveness_after_local_close_reports_no_remote_close() -> None:
    async with loopback() as made:
        live = Liveness(made.near)
        await aiortc_hooks.ice_connection(made.near).close()
        await until(lambda: made.near.getTransceivers()[0].receiver.transport.state == "closed")
        assert not live.closed_by_remote
