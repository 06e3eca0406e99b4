"""Freezes are counted as webrtc-stats defines them."""

from __future__ import annotations

from peer.media.incoming.freezes import FreezeDetector


def add_frames(freezes: FreezeDetector, intervals: list[float], now: float = 0.0) -> float:
    for interval in intervals:
        now += interval
        freezes.add_frame(now)
    return now


def test_regular_stream_has_no_freezes() -> None:
    freezes = FreezeDetector()
    add_frames(freezes, [1 / 30, 1 / 25] * 100)
    assert freezes.count == 0


def test_interval_beyond_both_limits_is_a_freeze() -> None:
    freezes = FreezeDetector()
    now = add_frames(freezes, [1 / 30] * 60)
    now = add_frames(freezes, [0.12, *[1 / 30] * 30], now)
    assert freezes.count == 0, "more than three intervals, but less than 150 ms too long"
    add_frames(freezes, [0.25], now)
    assert freezes.count == 1


def test_slow_stream_with_a_long_interval_has_no_freeze() -> None:
    freezes = FreezeDetector()
    now = add_frames(freezes, [0.5] * 40)
    add_frames(freezes, [1.2], now)
    assert freezes.count == 0


def test_pause_without_readers_is_no_freeze() -> None:
    freezes = FreezeDetector()
    now = add_frames(freezes, [1 / 30] * 60)
    freezes.pause()
    add_frames(freezes, [10.0, 1 / 30], now)
    assert freezes.count == 0
