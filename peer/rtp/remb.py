"""How much may be sent to us: when to tell the sender (REMB, draft-alvestrand-rmcat-remb-03). PURE.

The estimate itself is the engine's, handed in; it answers up to once a packet when it sees a queue grow, and a report
a packet was a sixth of a receiver's work. Ours are told at once when the estimate falls, as libwebrtc does
(``RembThrottler``), else twice a second at most: it rises by 8 % a second.
"""

from __future__ import annotations

from typing import Final, Protocol

from .packet import Packet

INTERVAL: Final = 0.5
"""Seconds between two reports, unless the estimate falls."""

FALL: Final = 0.97
"""The part of the last report below which the estimate has fallen."""

_GROUP: Final = 5 * (1 << 18) // 1000
"""5 ms of ``abs_send_time``: packets sent within are one to the estimate, which looks at the distance of groups."""


class Estimator(Protocol):
    """``aiortc.rate.RemoteBitrateEstimator``: bit/s and the SSRCs they are for, when it has something to say."""

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None: ...


class Bandwidth:
    """Feeds the estimate, and tells what to report."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._group: tuple[int, int, int, int] | None = None  # first sent, last sent, last arrived, octets
        self._told: tuple[float, int] | None = None

    def add(self, packet: Packet, now: float) -> tuple[int, list[int]] | None:
        """A packet came at ``now`` seconds. What to report: bit/s, and the SSRCs they are for."""
        sent = packet.abs_send_time
        if sent is None:
            return None
        arrived, size = int(now * 1000), len(packet.payload) + packet.padding
        group = self._group
        if group is not None and (sent - group[0]) & 0xFFFFFF < _GROUP:
            self._group = (group[0], sent, arrived, group[3] + size)
            return None
        self._group = (sent, sent, arrived, size)
        return None if group is None else self._estimate(group, packet.ssrc, now)

    def _estimate(self, group: tuple[int, int, int, int], ssrc: int, now: float) -> tuple[int, list[int]] | None:
        _, sent, arrived, size = group
        estimate = self._estimator.add(arrival_time_ms=arrived, abs_send_time=sent, payload_size=size, ssrc=ssrc)
        if estimate is None:
            return None
        if self._told is not None and now - self._told[0] < INTERVAL and estimate[0] >= self._told[1] * FALL:
            return None
        self._told = (now, estimate[0])
        return estimate
