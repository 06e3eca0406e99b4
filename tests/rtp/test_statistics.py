"""Reception statistics (RFC 3550 6.4.1), and the names by which the engine's report task reads them."""

from __future__ import annotations

import inspect

from aiortc import rtcrtpreceiver
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.statistics import StreamStatistics


def test_statistics_have_the_names_that_the_engine_reads() -> None:
    ours = StreamStatistics(90_000)
    source = inspect.getsource(rtcrtpreceiver.RTCRtpReceiver)
    for name in ("fraction_lost", "packets_lost", "max_seq", "jitter", "packets_received"):
        assert f"stream.{name}" in source, "the engine's report has changed"
        assert hasattr(ours, name)


@given(st.integers(0, 65535), st.lists(st.booleans(), min_size=1, max_size=300))
def test_loss_is_expected_minus_received(first: int, arrived: list[bool]) -> None:
    statistics = StreamStatistics(90_000)
    arrived = [True, *arrived, True]
    for at, present in enumerate(arrived):
        if present:
            statistics.add((first + at) % 65536, 3000 * at, at / 30)
    assert statistics.packets_lost == arrived.count(False)
    assert statistics.packets_received == arrived.count(True)
    assert statistics.max_seq == first + len(arrived) - 1
    assert statistics.fraction_lost == arrived.count(False) * 256 // len(arrived)
    assert statistics.fraction_lost == 0, "a new interval has started"


def test_duplicates_make_no_negative_fraction_lost() -> None:
    statistics = StreamStatistics(90_000)
    for number in (1, 2, 2, 2, 3):
        statistics.add(number, 0, 0.0)
    assert statistics.packets_lost == -2
    assert statistics.fraction_lost == 0


def test_restart_of_the_sender_loses_nothing() -> None:
    statistics = StreamStatistics(90_000)
    for number in (1, 2, 3, 5, 40_000, 40_001, 40_002):
        statistics.add(number, 0, 0.0)
    assert statistics.packets_lost == 1  # 4; 40,000 was dropped, and 40,001 was the restart
    assert statistics.packets_received == 6


def test_jitter_is_the_smoothed_change_of_transit_time() -> None:
    even = StreamStatistics(48_000)
    for number in range(500):
        even.add(number, 960 * number, 7.0 + number * 0.02)
    assert even.jitter_seconds < 0.0001
    uneven = StreamStatistics(48_000)
    for number in range(500):
        uneven.add(number, 960 * number, 7.0 + number * 0.02 + (number % 2) * 0.004)
    assert abs(uneven.jitter_seconds - 0.004) < 0.0001
    assert abs(uneven.jitter - 0.004 * 48_000) < 5


def test_jitter_ignores_timestamp_wrap_and_packets_of_a_frame() -> None:
    statistics = StreamStatistics(90_000)
    for number in range(400):
        frame = number // 4
        timestamp = (2**32 - 30 * 3000 + 3000 * frame) % 2**32
        statistics.add(number, timestamp, frame / 30 + (number % 4) * 0.001)
    assert statistics.jitter_seconds < 0.0001


def test_jitter_ignores_a_change_of_the_senders_clock() -> None:
    statistics = StreamStatistics(90_000)
    for number in range(60):
        leap = 0 if number < 30 else 2**31
        statistics.add(number, (3000 * number + leap) % 2**32, number / 30)
    assert statistics.jitter_seconds < 0.001
