"""The estimate is told when it falls, and now and then; not with each packet."""

from __future__ import annotations

from peer.rtp.packet import Packet
from peer.rtp.remb import INTERVAL, Bandwidth


class Estimates:
    """Answers always, as the engine's does while it sees a queue grow."""

    def __init__(self) -> None:
        self.bitrate = 1_000_000
        self.fed: list[tuple[int, int, int]] = []

    def add(self, arrival_time_ms: int, abs_send_time: int, payload_size: int, ssrc: int) -> tuple[int, list[int]]:
        self.fed.append((arrival_time_ms, abs_send_time, payload_size))
        return self.bitrate, [ssrc]


def packet(sent: float) -> Packet:
    return Packet(96, 1, 2, 3, bytes(100), padding=20, abs_send_time=int(sent * (1 << 18)) % (1 << 24))


def test_it_is_told_now_and_then_and_when_it_falls() -> None:
    estimates = Estimates()
    bandwidth = Bandwidth(estimates)
    told = [at for at in range(101) if bandwidth.add(packet(at / 100), at / 100)]
    assert told[0] == 1
    assert len(told) <= 1 / INTERVAL
    estimates.bitrate = 900_000
    assert bandwidth.add(packet(1.01), 1.01) == (900_000, [3])
    estimates.bitrate = 890_000
    assert bandwidth.add(packet(1.02), 1.02) is None, "that is no fall to speak of"


def test_packets_sent_together_are_one_to_the_estimate_across_the_end_of_its_clock() -> None:
    estimates = Estimates()
    bandwidth = Bandwidth(estimates)
    for burst in range(4):
        for n in range(5):
            bandwidth.add(packet(63.95 + burst / 30 + n * 0.0005), burst / 30 + n * 0.001)
    assert [size for _, _, size in estimates.fed] == [600, 600, 600]
    assert [arrived for arrived, _, _ in estimates.fed] == [4, 37, 70]


def test_a_packet_that_does_not_say_when_it_was_sent_says_nothing() -> None:
    estimates = Estimates()
    assert Bandwidth(estimates).add(Packet(96, 1, 2, 3, b""), 1.0) is None
    assert estimates.fed == []


def test_the_engines_estimate_can_be_fed() -> None:
    from aiortc.rate import RemoteBitrateEstimator

    bandwidth = Bandwidth(RemoteBitrateEstimator())
    told = [bandwidth.add(packet(at / 100), 1e6 + at / 100) for at in range(600)]
    assert any(one is not None and one[0] > 0 for one in told)
