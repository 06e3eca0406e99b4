"""When something was captured."""

from __future__ import annotations

import random
import time

import pytest

from peer.media.frames import media_time
from peer.media.sources import capture_time
from peer.media.sources.capture_time import CaptureClock, from_age, from_monotonic, from_wall


@pytest.mark.parametrize(("convert", "clock"), [(from_monotonic, time.monotonic), (from_wall, time.time)])
def test_a_stamp_of_the_maker_is_believed(convert, clock) -> None:  # type: ignore[no-untyped-def]
    assert convert(clock() - 0.3) == pytest.approx(media_time() - 0.3, abs=0.02)


@pytest.mark.parametrize("stamp", [None, 0.0, 1e12, -5.0])
def test_a_stamp_that_cannot_be_is_now(stamp: float | None) -> None:
    assert from_wall(stamp) == pytest.approx(media_time(), abs=0.02)


@pytest.mark.parametrize(("age", "believed"), [(0.3, 0.3), (0, 0), (2, 0), (-1, 0)])
def test_sound_is_as_old_as_it_lay_in_its_device(age: float, believed: float) -> None:
    assert from_age(age) == pytest.approx(media_time() - believed, abs=0.02)


def test_a_stamp_of_the_future_is_now() -> None:
    assert from_monotonic(time.monotonic() + 5) == pytest.approx(media_time(), abs=0.02)


def test_both_tracks_of_a_stream_keep_their_distance() -> None:
    clock = CaptureClock()
    assert clock.capture_time(100.0) - clock.capture_time(99.8) == pytest.approx(0.2)


def test_nothing_arrives_before_it_was_made() -> None:
    clock = CaptureClock()
    clock.capture_time(100.0)
    assert clock.capture_time(100.5) <= media_time()


def test_a_stream_that_starts_anew_is_now() -> None:
    clock = CaptureClock()
    clock.capture_time(5000.0)
    assert clock.capture_time(0.0) == pytest.approx(media_time(), abs=0.02)
    assert clock.capture_time(None) == pytest.approx(media_time(), abs=0.02)


@pytest.mark.parametrize("drift", [-100e-6, 100e-6])
def test_a_stream_whose_clock_runs_off_is_followed(drift: float, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(capture_time, "media_time", lambda: now[0])
    clock, late = CaptureClock(), random.Random(1)
    before = 0.0
    for n in range(2 * 3600 * 10):
        captured = n / 10
        now[0] = captured + 0.03 + late.random() * 0.05
        moment = clock.capture_time(captured * (1 + drift))
        assert before <= moment <= now[0]
        assert captured - 0.01 < moment < captured + 0.09
        before = moment


def test_a_stream_that_comes_late_for_a_moment_keeps_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
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
