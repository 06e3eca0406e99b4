"""What a receiver report says (RFC 3550 6.4.1), and that the engine's report task can read it."""

from __future__ import annotations

import inspect

from aiortc import rtcrtpreceiver
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.statistics import StreamStatistics


def test_the_engine_reads_nothing_that_is_not_there() -> None:
    ours = StreamStatistics(90_000)
    source = inspect.getsource(rtcrtpreceiver.RTCRtpReceiver)
    for name in ("fraction_lost", "packets_lost", "max_seq", "jitter", "packets_received"):
        assert f"stream.{name}" in source, "the engine's report has changed"
        assert hasattr(ours, name)


@given(st.integers(0, 65535), st.lists(st.booleans(), min_size=1, max_size=300))
def test_loss_is_what_was_expected_and_did_not_come(first: int, came: list[bool]) -> None:
    statistics = StreamStatistics(90_000)
    came = [True, *came, True]
    for at, there in enumerate(came):
        if there:
            statistics.add((first + at) % 65536, 3000 * at, at / 30)
    assert statistics.packets_lost == came.count(False)
    assert statistics.packets_received == came.count(True)
    assert statistics.max_seq == first + len(came) - 1
    assert statistics.fraction_lost == came.count(False) * 256 // len(came)
    assert statistics.fraction_lost == 0, "a new interval has begun"


def test_packets_that_come_twice_are_no_negative_fraction() -> None:
    statistics = StreamStatistics(90_000)
    for number in (1, 2, 2, 2, 3):
        statistics.add(number, 0, 0.0)
    assert statistics.packets_lost == -2
    assert statistics.fraction_lost == 0


def test_a_sender_that_starts_anew_has_lost_nothing() -> None:
    statistics = StreamStatistics(90_000)
    for number in (1, 2, 3, 5, 40_000, 40_001, 40_002):
        statistics.add(number, 0, 0.0)
    assert statistics.packets_lost == 1  # 4; 40,000 was left out, and 40,001 began
    assert statistics.packets_received == 6


def test_jitter_is_the_smoothed_difference_of_the_distances() -> None:
    even = StreamStatistics(48_000)
    for number in range(500):
        even.add(number, 960 * number, 7.0 + number * 0.02)
    assert even.jitter_seconds < 0.0001
    shaken = StreamStatistics(48_000)
    for number in range(500):
        shaken.add(number, 960 * number, 7.0 + number * 0.02 + (number % 2) * 0.004)
    assert abs(shaken.jitter_seconds - 0.004) < 0.0001
    assert abs(shaken.jitter - 0.004 * 48_000) < 5


def test_jitter_survives_the_end_of_the_timestamps_and_packets_of_one_picture() -> None:
    statistics = StreamStatistics(90_000)
    for number in range(400):
        picture = number // 4
        timestamp = (2**32 - 30 * 3000 + 3000 * picture) % 2**32
        statistics.add(number, timestamp, picture / 30 + (number % 4) * 0.001)
    assert statistics.jitter_seconds < 0.0001


def test_a_clock_that_is_set_is_no_jitter() -> None:
    statistics = StreamStatistics(90_000)
    for number in range(60):
        leap = 0 if number < 30 else 2**31
        statistics.add(number, (3000 * number + leap) % 2**32, number / 30)
    assert statistics.jitter_seconds < 0.001
