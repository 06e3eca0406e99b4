"""The audio framer."""

from __future__ import annotations

import av
import numpy as np
import pytest

from peer.media.frames import AUDIO_TIME_BASE
from peer.media.sources.audio_framer import AudioFramer
from peer.media.test_pattern import dominant_frequency


def _audio(samples: int, rate: int, layout: str, sample_format: str = "s16", start: int = 0) -> av.AudioFrame:
    channels = len(av.AudioLayout(layout).channels)
    wave = np.sin((np.arange(samples) + start) * 2 * np.pi * 600 / rate)
    if sample_format == "fltp":
        data = np.repeat(wave.astype(np.float32)[np.newaxis], channels, axis=0)
    else:
        data = np.repeat((wave * 9000).astype(np.int16), channels)[np.newaxis]
    frame = av.AudioFrame.from_ndarray(data, format=sample_format, layout=layout)
    frame.sample_rate = rate
    return frame


@pytest.mark.parametrize(
    ("rate", "layout", "sample_format"),
    [(48_000, "stereo", "s16"), (44_100, "stereo", "fltp"), (8_000, "mono", "s16"), (48_000, "5.1", "fltp")],
)
def test_framer_any_format_becomes_960_samples_s16_stereo(rate: int, layout: str, sample_format: str) -> None:
    framer = AudioFramer()
    size = rate // 47
    frames = [
        frame
        for n in range(60)
        for frame in framer.push(_audio(size, rate, layout, sample_format, n * size), 5 + n * size / rate)
    ]
    assert {(p.samples, p.format.name, p.layout.name, p.sample_rate, p.time_base) for p in frames} == {
        (960, "s16", "stereo", 48_000, AUDIO_TIME_BASE)
    }
    assert [frame.pts for frame in frames] == [240_000 + 960 * n for n in range(len(frames))]
    assert len(frames) >= 60
    samples = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in frames])
    assert dominant_frequency(samples) == pytest.approx(600, abs=2)


def test_framer_timestamps_have_no_jitter() -> None:
    framer = AudioFramer()
    pts = [
        frame.pts
        for n in range(100)
        for frame in framer.push(_audio(960, 48_000, "stereo"), 1 + n * 0.02 + (n % 3) * 0.015)
    ]
    assert pts == [48_000 + 960 * n for n in range(100)]


def test_framer_timestamps_jump_over_a_gap() -> None:
    framer = AudioFramer()
    first = [frame.pts for frame in framer.push(_audio(1920, 48_000, "stereo"), 1.0)]
    later = [frame.pts for frame in framer.push(_audio(1920, 48_000, "stereo"), 3.0)]
    assert (first, later) == ([48_000, 48_960], [144_000, 144_960])


def test_framer_fast_clock_drops_audio_and_never_goes_back() -> None:
    framer = AudioFramer()
    pts = [p.pts for n in range(500) for p in framer.push(_audio(960, 48_000, "stereo"), 1 + n * 0.0198)]
    assert pts == sorted(set(pts))
    assert abs(pts[-1] / 48_000 - (1 + 499 * 0.0198)) < 0.06


@pytest.mark.parametrize("surplus", [2_000, 4_567, 48_000])
def test_framer_drops_the_whole_surplus_at_once(surplus: int) -> None:
    """As when the first packets of a stream arrive late: what follows is in sync to the sample."""
    framer = AudioFramer()
    list(framer.push(_audio(960, 48_000, "stereo"), 1.0 + surplus / 48_000))
    end = 0.0
    for n in range(1, 60):
        list(framer.push(_audio(960, 48_000, "stereo"), 1.0 + n * 0.02))
        end = 1.0 + (n + 1) * 0.02
    assert framer.end == pytest.approx(end, abs=1e-9)


def test_framer_accepts_a_change_of_format() -> None:
    framer = AudioFramer()
    list(framer.push(_audio(960, 48_000, "stereo"), 1.0))
    assert list(framer.push(_audio(8_000, 8_000, "mono"), 1.02))
