"""Where a frame belongs, by arrivals and by the sender's reports."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.media.frames import EncodedFrame
from peer.media.recording.av_sync import SLEW, Timeline


def _frame(kind: Literal["video", "audio"], media: float, arrival: float, ntp: float | None = None) -> EncodedFrame:
    """Media seconds 0 is timestamp 1000 s for the picture and 5000 s for sound."""
    rate, origin = (90_000, 1000) if kind == "video" else (48_000, 5000)
    stamp = round((media + origin) * rate)
    return EncodedFrame(kind, "vp8" if kind == "video" else "opus", b"", stamp, rate, True, arrival, ntp)


def _place(timeline: Timeline, frame: EncodedFrame) -> float:
    timeline.observe(frame)
    return timeline.place(frame)


def test_spacing_is_that_of_the_timestamps_not_of_the_arrivals() -> None:
    timeline = Timeline()
    jitter = (0.0, 0.011, 0.003, 0.018, 0.0)
    placed = [_place(timeline, _frame("audio", n * 0.02, 50 + n * 0.02 + late)) for n, late in enumerate(jitter)]
    assert placed == pytest.approx([50 + n * 0.02 for n in range(5)], abs=1e-4)


def test_the_frame_with_the_least_delay_says_where_a_track_lies() -> None:
    timeline = Timeline()
    first, second = _frame("video", 0, 50.3), _frame("video", 0.033, 50.043)
    timeline.observe(first)
    timeline.observe(second)
    assert timeline.place(first) == pytest.approx(50.01, abs=1e-4)


def test_reports_of_both_put_the_picture_where_the_sound_is() -> None:
    timeline = Timeline()
    picture = _frame("video", 0, 50.2, ntp=7000.0)  # 0.2 s on its way
    sound = _frame("audio", 0, 50.0, ntp=7000.0)
    timeline.observe(picture)
    timeline.observe(sound)
    assert timeline.place(picture) == pytest.approx(timeline.place(sound), abs=1e-4)


def test_reports_that_come_late_are_followed_slowly_and_to_the_end() -> None:
    timeline = Timeline()
    skews = []
    last = 0.0
    for n in range(300):
        at = n / 30
        ntp = 7000 + at if n >= 60 else None
        sound = _place(timeline, _frame("audio", at, 50 + at, ntp))
        picture = _place(timeline, _frame("video", at, 50.15 + at, ntp))
        assert n == 0 or picture > last
        last = picture
        skews.append(picture - sound)
    assert skews[59] == pytest.approx(0.15, abs=1e-3)
    assert skews[61] - skews[60] == pytest.approx(-SLEW["video"] / 30, abs=1e-4)
    assert skews[-1] == pytest.approx(0, abs=1e-4)


def test_a_senders_clock_that_is_set_meanwhile_moves_nothing() -> None:
    timeline = Timeline()
    for n in range(60):
        at = n / 30
        _place(timeline, _frame("audio", at, 50 + at, 7000 + at))
        picture = _place(timeline, _frame("video", at, 50 + at, 7000 + at + (3600 if n > 30 else 0)))
        assert picture == pytest.approx(50 + at, abs=1e-3)


def test_clocks_that_drift_apart_for_a_day_stay_together() -> None:
    """A sound card that runs 100 ppm slow, and a camera that does not; 9 s a day."""
    timeline = Timeline()
    for minute in range(24 * 60):
        at = minute * 60.0
        sound = _place(timeline, _frame("audio", at * (1 - 1e-4), 50 + at, 7000 + at))
        picture = _place(timeline, _frame("video", at, 50 + at, 7000 + at))
    assert picture - sound == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("jump", [-800.0, 4000.0])
def test_timestamps_that_begin_anew_go_on_where_the_arrivals_are(jump: float) -> None:
    timeline = Timeline()
    _place(timeline, _frame("video", 0, 50))
    _place(timeline, _frame("video", 1, 51))
    assert _place(timeline, _frame("video", 1.5 + jump, 51.5)) == pytest.approx(51.5, abs=1e-3)
    assert _place(timeline, _frame("video", 1.6 + jump, 51.6)) == pytest.approx(51.6, abs=1e-3)


def test_a_burst_after_a_stall_keeps_its_own_spacing() -> None:
    timeline = Timeline()
    for n in range(30):
        _place(timeline, _frame("audio", n * 0.02, 50 + n * 0.02))
    late = [_place(timeline, _frame("audio", 0.6 + n * 0.02, 53)) for n in range(100)]
    assert late == pytest.approx([50.6 + n * 0.02 for n in range(100)], abs=1e-3)


@given(
    st.lists(
        st.tuples(st.sampled_from(["audio", "video"]), st.floats(0, 0.3), st.none() | st.floats(-2, 2)),
        max_size=60,
    )
)
def test_a_track_never_runs_backwards(steps: list[tuple[Literal["audio", "video"], float, float | None]]) -> None:
    timeline = Timeline()
    last = {"audio": -1.0, "video": -1.0}
    for n, (kind, delay, skew) in enumerate(steps):
        at = n * 0.02
        placed = _place(timeline, _frame(kind, at, 50 + at + delay, None if skew is None else 7000 + at + skew))
        assert placed > last[kind]
        last[kind] = placed
