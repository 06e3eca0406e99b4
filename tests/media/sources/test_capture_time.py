"""Conversion of capture timestamps."""

from __future__ import annotations

import random
import time

import pytest

from peer.media.frames import media_time
from peer.media.sources import capture_time
from peer.media.sources.capture_time import CaptureClock, from_age, from_monotonic, from_wall


@pytest.mark.parametrize(("convert", "clock"), [(from_monotonic, time.monotonic), (from_wall, time.time)])
def test_device_timestamp_is_converted(convert, clock) -> None:  # type: ignore[no-untyped-def]
    assert convert(clock() - 0.3) == pytest.approx(media_time() - 0.3, abs=0.02)


@pytest.mark.parametrize("stamp", [None, 0.0, 1e12, -5.0])
def test_implausible_timestamp_becomes_now(stamp: float | None) -> None:
    assert from_wall(stamp) == pytest.approx(media_time(), abs=0.02)


@pytest.mark.parametrize(("age", "expected"), [(0.3, 0.3), (0, 0), (2, 0), (-1, 0)])
def test_audio_age_is_subtracted_from_now(age: float, expected: float) -> None:
    assert from_age(age) == pytest.approx(media_time() - expected, abs=0.02)


def test_future_timestamp_becomes_now() -> None:
    assert from_monotonic(time.monotonic() + 5) == pytest.approx(media_time(), abs=0.02)


def test_clock_keeps_intervals_between_tracks() -> None:
    clock = CaptureClock()
    assert clock.capture_time(100.0) - clock.capture_time(99.8) == pytest.approx(0.2)


def test_clock_returns_no_time_in_the_future() -> None:
    clock = CaptureClock()
    clock.capture_time(100.0)
    assert clock.capture_time(100.5) <= media_time()


def test_clock_resets_when_stream_restarts() -> None:
    clock = CaptureClock()
    clock.capture_time(5000.0)
    assert clock.capture_time(0.0) == pytest.approx(media_time(), abs=0.02)
    assert clock.capture_time(None) == pytest.approx(media_time(), abs=0.02)


@pytest.mark.parametrize("drift", [-100e-6, 100e-6])
def test_clock_follows_a_drifting_stream(drift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(capture_time, "media_time", lambda: now[0])
    clock, late = CaptureClock(), random.Random(1)
    before = 0.0
    for n in range(2 * 3600 * 10):
        captured = n / 10
        now[0] = captured + 0.03 + late.random() * 0.05
        converted = clock.capture_time(captured * (1 + drift))
        assert before <= converted <= now[0]
        assert captured - 0.01 < converted < captured + 0.09
        before = converted


def test_clock_ignores_a_short_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(capture_time, "media_time", lambda: now[0])
    clock = CaptureClock()
    for n in range(6000):
        captured = n / 10
        now[0] = captured + (0.8 if n % 300 < 40 else 0.02)
        if n >= 200:
            assert clock.capture_time(captured) == pytest.approx(captured + 0.02)
        elif n >= 50:
            clock.capture_time(captured)
