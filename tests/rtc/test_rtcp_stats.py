"""Statistics of senders, from the W3C reports of the engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from peer.rtc.rtcp_stats import SenderStats, sender_stats


def _connection(*reports: list[Any]) -> Any:
    class RtpSender:
        def __init__(self, entries: list[Any]) -> None:
            self._entries = entries

        async def getStats(self) -> dict[str, Any]:
            return {str(n): entry for n, entry in enumerate(self._entries)}

    senders = [RtpSender(entries) for entries in reports]
    return SimpleNamespace(getSenders=lambda: senders)


def _remote(rtt: float | None) -> Any:
    return SimpleNamespace(type="remote-inbound-rtp", roundTripTime=rtt)


def _outbound(kind: str, count: int) -> Any:
    return SimpleNamespace(type="outbound-rtp", kind=kind, bytesSent=count)


async def test_sender_stats_without_reports_are_empty() -> None:
    assert await sender_stats(_connection()) == SenderStats(None, {})
    assert await sender_stats(_connection([_remote(None), SimpleNamespace(type="transport")])) == SenderStats(
        None, {}
    )


async def test_sender_stats_take_the_shortest_rtt_and_add_bytes() -> None:
    connection = _connection(
        [_outbound("video", 100), _remote(0.3)], [_outbound("audio", 7), _remote(0.2)], [_outbound("video", 1)]
    )
    assert await sender_stats(connection) == SenderStats(0.2, {"video": 101, "audio": 7})
