"""Resampling of audio whose format changes."""

from __future__ import annotations

import av
import numpy as np
import pytest

from peer.media.audio.resampler import Resampler


def _silence(samples: int, sample_format: str, layout: str, rate: int) -> av.AudioFrame:
    frame = av.AudioFrame(format=sample_format, layout=layout, samples=samples)
    for plane in frame.planes:
        plane.update(bytes(plane.buffer_size))
    frame.sample_rate = rate
    return frame


@pytest.mark.parametrize(
    ("sample_format", "layout", "rate"),
    [("s16", "mono", 8000), ("fltp", "stereo", 44_100), ("s16", "stereo", 48_000), ("s32", "mono", 16_000)],
)
def test_resample_any_format_becomes_s16_stereo_at_48_khz(sample_format: str, layout: str, rate: int) -> None:
    resampler = Resampler()
    frames = [
        frame for _ in range(50) for frame in resampler.resample(_silence(rate // 50, sample_format, layout, rate))
    ]
    assert {(frame.format.name, frame.layout.name, frame.sample_rate) for frame in frames} == {
        ("s16", "stereo", 48_000)
    }
    assert sum(frame.samples for frame in frames) == pytest.approx(48_000, abs=100)


def test_resample_follows_a_change_of_format() -> None:
    resampler = Resampler()
    for sample_format, layout, rate in (("s16", "stereo", 48_000), ("fltp", "mono", 8000), ("s16", "stereo", 48_000)):
        frames = [
            frame for _ in range(3) for frame in resampler.resample(_silence(rate // 50, sample_format, layout, rate))
        ]
        assert frames and not any(np.any(frame.to_ndarray()) for frame in frames)


def test_pyav_resampler_does_not_follow_a_change_of_format() -> None:
    """Contract of PyAV: otherwise ``Resampler`` would not be needed."""
    converting = av.AudioResampler("s16", "stereo", 48_000)
    converting.resample(_silence(882, "fltp", "stereo", 44_100))
    with pytest.raises(ValueError, match="does not match"):
        converting.resample(_silence(160, "s16", "mono", 8000))
    unchanged = av.AudioResampler("s16", "stereo", 48_000)
    unchanged.resample(_silence(960, "s16", "stereo", 48_000))
    assert [frame.sample_rate for frame in unchanged.resample(_silence(160, "s16", "mono", 8000))] == [8000]
