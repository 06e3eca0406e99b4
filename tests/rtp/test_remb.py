"""Throttling of REMB: a decrease at once, other estimator rarely, never for every packet."""

from __future__ import annotations

from aiortc.rate import RemoteBitrateEstimator

from peer.rtp.packet import Packet
from peer.rtp.remb import REPORT_INTERVAL, RembThrottler


class Estimator:
    """An estimator with an estimate for every packet, as the engine's while a queue grows."""

    def __init__(self) -> None:
        self.bitrate = 1_000_000
        self.fed: list[tuple[int, int, int]] = []

    def add(self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int) -> tuple[int, list[int]]:
        self.fed.append((arrival_time_ms, abs_send_time, payload_size))
        return self.bitrate, [ssrc]


def packet(sent: float) -> Packet:
    return Packet(96, 1, 2, 3, bytes(100), padding=20, abs_send_time=int(sent * (1 << 18)) % (1 << 24))


def test_estimate_is_reported_at_intervals_and_on_decrease() -> None:
    estimator = Estimator()
    throttler = RembThrottler(estimator)
    reports = [at for at in range(101) if throttler.add(packet(at / 100), at / 100)]
    assert reports[0] == 1
    assert len(reports) <= 1 / REPORT_INTERVAL
    estimator.bitrate = 900_000
    assert throttler.add(packet(1.01), 1.01) == (900_000, [3])
    estimator.bitrate = 890_000
    assert throttler.add(packet(1.02), 1.02) is None, "the decrease is too small"


def test_packets_sent_together_are_grouped_across_the_wrap() -> None:
    estimator = Estimator()
    throttler = RembThrottler(estimator)
    for burst in range(4):
        for n in range(5):
            throttler.add(packet(63.95 + burst / 30 + n * 0.0005), burst / 30 + n * 0.001)
    assert [size for _, _, size in estimator.fed] == [600, 600, 600]
    assert [arrived for arrived, _, _ in estimator.fed] == [4, 37, 70]


def test_packet_without_send_time_is_ignored() -> None:
    estimator = Estimator()
    assert RembThrottler(estimator).add(Packet(96, 1, 2, 3, b""), 1.0) is None
    assert estimator.fed == []


def test_engines_estimator_accepts_the_input() -> None:
    throttler = RembThrottler(RemoteBitrateEstimator())
    reports = [throttler.add(packet(at / 100), 1e6 + at / 100) for at in range(600)]
    assert any(one is not None and one[0] > 0 for one in reports)
