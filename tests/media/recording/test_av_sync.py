"""Placement of frames by their arrivals and by sender reports."""

from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.media.frames import EncodedFrame
from peer.media.recording.av_sync import SLEW_RATE, AvSync


def _frame(kind: Literal["video", "audio"], media: float, arrival: float, ntp: float | None = None) -> EncodedFrame:
    """Media seconds 0 is timestamp 1000 s for the video and 5000 s for audio."""
    rate, origin = (90_000, 1000) if kind == "video" else (48_000, 5000)
    timestamp = round((media + origin) * rate)
    return EncodedFrame(kind, "vp8" if kind == "video" else "opus", b"", timestamp, rate, True, arrival, ntp)


def _place(av_sync: AvSync, frame: EncodedFrame) -> float:
    av_sync.observe(frame)
    return av_sync.place(frame)


def test_distances_follow_timestamps_not_arrivals() -> None:
    av_sync = AvSync()
    jitter = (0.0, 0.011, 0.003, 0.018, 0.0)
    placed = [_place(av_sync, _frame("audio", n * 0.02, 50 + n * 0.02 + late)) for n, late in enumerate(jitter)]
    assert placed == pytest.approx([50 + n * 0.02 for n in range(5)], abs=1e-4)


def test_frame_with_the_smallest_delay_sets_the_offset() -> None:
    av_sync = AvSync()
    first, second = _frame("video", 0, 50.3), _frame("video", 0.033, 50.043)
    av_sync.observe(first)
    av_sync.observe(second)
    assert av_sync.place(first) == pytest.approx(50.01, abs=1e-4)


def test_sender_reports_align_video_with_audio() -> None:
    av_sync = AvSync()
    video = _frame("video", 0, 50.2, ntp=7000.0)  # delayed by 0.2 s
    audio = _frame("audio", 0, 50.0, ntp=7000.0)
    av_sync.observe(video)
    av_sync.observe(audio)
    assert av_sync.place(video) == pytest.approx(av_sync.place(audio), abs=1e-4)


def test_late_reports_correct_the_offset_gradually() -> None:
    av_sync = AvSync()
    skews = []
    last = 0.0
    for n in range(300):
        at = n / 30
        ntp = 7000 + at if n >= 60 else None
        audio = _place(av_sync, _frame("audio", at, 50 + at, ntp))
        video = _place(av_sync, _frame("video", at, 50.15 + at, ntp))
        assert n == 0 or video > last
        last = video
        skews.append(video - audio)
    assert skews[59] == pytest.approx(0.15, abs=1e-3)
    assert skews[61] - skews[60] == pytest.approx(-SLEW_RATE["video"] / 30, abs=1e-4)
    assert skews[-1] == pytest.approx(0, abs=1e-4)


def test_sender_clock_that_is_set_moves_no_frame() -> None:
    av_sync = AvSync()
    for n in range(60):
        at = n / 30
        _place(av_sync, _frame("audio", at, 50 + at, 7000 + at))
        video = _place(av_sync, _frame("video", at, 50 + at, 7000 + at + (3600 if n > 30 else 0)))
        assert video == pytest.approx(50 + at, abs=1e-3)


def test_clocks_that_drift_for_a_day_stay_aligned() -> None:
    """A sound card 100 ppm slower than the camera: 9 s per day."""
    av_sync = AvSync()
    for minute in range(24 * 60):
        at = minute * 60.0
        audio = _place(av_sync, _frame("audio", at * (1 - 1e-4), 50 + at, 7000 + at))
        video = _place(av_sync, _frame("video", at, 50 + at, 7000 + at))
    assert video - audio == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("jump", [-800.0, 4000.0])
def test_restarted_timestamps_continue_at_their_arrivals(jump: float) -> None:
    av_sync = AvSync()
    _place(av_sync, _frame("video", 0, 50))
    _place(av_sync, _frame("video", 1, 51))
    assert _place(av_sync, _frame("video", 1.5 + jump, 51.5)) == pytest.approx(51.5, abs=1e-3)
    assert _place(av_sync, _frame("video", 1.6 + jump, 51.6)) == pytest.approx(51.6, abs=1e-3)


def test_burst_after_a_stall_keeps_its_distances() -> None:
    av_sync = AvSync()
    for n in range(30):
        _place(av_sync, _frame("audio", n * 0.02, 50 + n * 0.02))
    late = [_place(av_sync, _frame("audio", 0.6 + n * 0.02, 53)) for n in range(100)]
    assert late == pytest.approx([50.6 + n * 0.02 for n in range(100)], abs=1e-3)


@given(
    st.lists(
        st.tuples(st.sampled_from(["audio", "video"]), st.floats(0, 0.3), st.none() | st.floats(-2, 2)),
        max_size=60,
    )
)
def test_track_never_runs_backwards(steps: list[tuple[Literal["audio", "video"], float, float | None]]) -> None:
    av_sync = AvSync()
    last = {"audio": -1.0, "video": -1.0}
    for n, (kind, delay, skew) in enumerate(steps):
        at = n * 0.02
        placed = _place(av_sync, _frame(kind, at, 50 + at + delay, None if skew is None else 7000 + at + skew))
        assert placed > last[kind]
        last[kind] = placed
