"""The test pattern and tone: they can be read back, even after scaling and lossy encoding."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peer.media import test_pattern
from peer.media.frames import AUDIO_RATE
from peer.media.test_pattern import BEEP, TONE, Pattern, beep_onsets, dominant_frequency, read_pattern, tone_frame


def _tone(first: int, count: int) -> np.ndarray:
    return np.concatenate(
        [tone_frame(960 * n).to_ndarray().reshape(-1, 2)[:, 0] for n in range(first, first + count)]
    )


@settings(max_examples=25, deadline=None)
@given(frame=st.integers(0, 2**32 - 1), clock=st.integers(0, 2**48))
def test_pattern_reading_returns_what_was_drawn(frame: int, clock: int) -> None:
    picture = Pattern(320, 180, 30).draw(frame, clock)
    reading = read_pattern(picture.to_ndarray(format="gray"))
    assert reading is not None
    assert (reading.frame, reading.clock) == (frame, clock % 2**32)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (640, 480), (322, 242), (160, 120), (128, 96)])
def test_pattern_is_readable_at_every_size(width: int, height: int) -> None:
    picture = Pattern(width, height, 30).draw(1234, 5678)
    assert (picture.width, picture.height, picture.format.name) == (width, height, "yuv420p")
    reading = read_pattern(picture.to_ndarray(format="bgr24"))
    assert reading is not None
    assert (reading.frame, reading.clock) == (1234, 5678)


@pytest.mark.parametrize("scale", [0.25, 0.37, 1.7])
def test_pattern_is_readable_after_scaling(scale: float) -> None:
    picture = Pattern(640, 360, 30).draw(99, 4711)
    reading = read_pattern(picture.reformat(round(640 * scale), round(360 * scale), "gray").to_ndarray())
    assert reading is not None
    assert (reading.frame, reading.clock) == (99, 4711)


def test_pattern_is_readable_after_vp8_at_low_bitrate() -> None:
    pattern = Pattern(640, 360, 30)
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt, encoder.bit_rate = 640, 360, "yuv420p", 150_000
    encoder.time_base = Fraction(1, 90_000)
    encoder.options = {"deadline": "realtime", "cpu-used": "-6", "lag-in-frames": "0"}
    decoder = av.CodecContext.create("vp8", "r")
    packets = [packet for n in range(30) for packet in encoder.encode(pattern.draw(n))] + encoder.encode(None)
    readings = [
        read_pattern(frame.to_ndarray(format="gray")) for packet in packets for frame in decoder.decode(packet)
    ]
    assert [reading.frame for reading in readings if reading is not None] == list(range(30))


def test_torn_pattern_reads_as_none() -> None:
    pattern = Pattern(640, 360, 30)
    torn = pattern.draw(1, 1_000_000).to_ndarray(format="gray")
    torn[: 360 // 5] = pattern.draw(77, 7_654_321).to_ndarray(format="gray")[: 360 // 5]
    assert read_pattern(torn) is None


@pytest.mark.parametrize("level", [0, 128, 255])
def test_plain_image_reads_as_none(level: int) -> None:
    assert read_pattern(np.full((360, 640), level, np.uint8)) is None


def test_noise_reads_as_none() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (200, 360, 640), np.uint8)
    assert [image for image in noise if read_pattern(image) is not None] == []


def test_pattern_flashes_in_first_tenth_of_each_second() -> None:
    pattern = Pattern(320, 180, 30)
    readings = [read_pattern(pattern.draw(n).to_ndarray(format="gray")) for n in range(60)]
    assert [reading.frame for reading in readings if reading and reading.flash] == [0, 1, 2, 30, 31, 32]


def test_pattern_has_a_moving_block() -> None:
    pattern = Pattern(320, 180, 30)
    first, second = (pattern.draw(n, 0).to_ndarray(format="gray")[150:172, :220] for n in (10, 20))
    assert not np.array_equal(first, second)


def test_pattern_frame_time_follows_its_number() -> None:
    picture = Pattern(320, 180, 25).draw(50)
    assert picture.time == 2.0
    assert picture.pict_type == 0


def test_pattern_age_is_time_since_drawing() -> None:
    now = time.time()
    reading = read_pattern(Pattern(320, 180, 30).draw(1, round(now * 1000) - 250).to_ndarray(format="gray"))
    assert reading is not None
    assert reading.age(now) == pytest.approx(0.25, abs=0.001)


def test_tone_is_continuous_across_seconds() -> None:
    assert dominant_frequency(_tone(25, 50)) == TONE
    steady = _tone(10, 30).astype(float)
    assert np.abs(np.diff(steady)).max() < 0.1 * 32767 * 2 * np.pi * TONE / AUDIO_RATE * 1.05


def test_beep_dominates_while_it_lasts() -> None:
    assert dominant_frequency(_tone(50, 5)) == pytest.approx(BEEP, abs=15)


def test_beeps_start_at_each_second() -> None:
    onsets = beep_onsets(_tone(25, 150))
    assert onsets == pytest.approx([0.5, 1.5, 2.5], abs=0.002)


@pytest.mark.parametrize("frequency", [700, 440, 2500])
def test_plain_tone_has_no_beep_onsets(frequency: int) -> None:
    assert beep_onsets(np.sin(np.arange(AUDIO_RATE * 2) * 2 * np.pi * frequency / AUDIO_RATE) * 9000) == []


def test_silence_has_no_frequency_and_no_beep_onsets() -> None:
    assert dominant_frequency(np.zeros(4800)) == 0.0
    assert beep_onsets(np.zeros(48_000)) == []


def test_pattern_module_is_not_collected_by_pytest(pytestconfig: pytest.Config) -> None:
    assert [name for name in vars(test_pattern) if name.lower().startswith("test")] == []
    path = Path(test_pattern.__file__)
    assert not any(path.match(pattern) for pattern in pytestconfig.getini("python_files"))
