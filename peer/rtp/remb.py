"""Throttling of REMB messages (draft-alvestrand-rmcat-remb-03), which report the estimated bandwidth. Pure.

The engine makes the estimates. While a queue grows it has a new one for every packet, and sending all of them was a
sixth of a receiver's work. As in libwebrtc (``RembThrottler``), a decrease is reported at once. Other estimates are
reported at most twice per second, because they rise by only 8% per second.
"""

from __future__ import annotations

from typing import Final, Protocol

from .packet import Packet

REPORT_INTERVAL: Final = 0.5
"""Minimum time between two reports without a decrease, in seconds. See the module."""

DECREASE_FACTOR: Final = 0.97
"""Part of the last report below which an estimate counts as a decrease, as in libwebrtc."""

_GROUP_DURATION: Final = 5 * (1 << 18) // 1000
"""5 ms in units of abs-send-time. The estimator groups packets sent within this time, and compares groups."""


class Estimator(Protocol):
    """The interface of ``aiortc.rate.RemoteBitrateEstimator``."""

    def add(
        self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int
    ) -> tuple[int, list[int]] | None:
        """Return a new estimate in bit/s with the SSRCs it is for, if there is one."""


class RembThrottler:
    """A front of the estimator that feeds it groups of packets and selects the estimates to report."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator = estimator
        self._group: tuple[int, int, int, int] | None = None  # first sent, last sent, last arrived in ms, bytes
        self._last_report: tuple[float, int] | None = None  # time, bit/s

    def add(self, packet: Packet, now: float) -> tuple[int, list[int]] | None:
        """Add a packet that arrived at ``now``, in seconds. Return bit/s and SSRCs if they are to be reported."""
        sent = packet.abs_send_time
        if sent is None:
            return None
        arrived, size = int(now * 1000), len(packet.payload) + packet.padding
        group = self._group
        if group is not None and (sent - group[0]) & 0xFFFFFF < _GROUP_DURATION:
            self._group = (group[0], sent, arrived, group[3] + size)
            return None
        self._group = (sent, sent, arrived, size)
        return None if group is None else self._estimate(group, packet.ssrc, now)

    def _estimate(self, group: tuple[int, int, int, int], ssrc: int, now: float) -> tuple[int, list[int]] | None:
        _, sent, arrived, size = group
        estimate = self._estimator.add(arrival_time_ms=arrived, abs_send_time=sent, payload_size=size, ssrc=ssrc)
        if estimate is None:
            return None
        if self._last_report is not None:
            reported_at, bitrate = self._last_report
            if now - reported_at < REPORT_INTERVAL and estimate[0] >= bitrate * DECREASE_FACTOR:
                return None
        self._last_report = (now, estimate[0])
        return estimate
