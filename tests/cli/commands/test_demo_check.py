"""The demo's check of received media."""

from __future__ import annotations

import av
import numpy as np

from peer.cli.commands.demo_check import MediaCheck
from peer.media import test_pattern


def add_tone(check: MediaCheck, hertz: float, amplitude: float = 0.1) -> None:
    wave = np.sin(2 * np.pi * hertz * np.arange(48_000) / 48_000) * amplitude * 32767
    for block in np.repeat(wave.astype(np.int16), 2).reshape(-1, 1920):
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = 48_000
        check.add_audio(frame)


def add_pattern(check: MediaCheck, numbers: range) -> None:
    drawn = test_pattern.Pattern(320, 240, 30)
    for number in numbers:
        check.add_video(drawn.draw(number))


def full_check() -> MediaCheck:
    return MediaCheck(pattern=True, tone=True, audio=True)


def test_pattern_and_tone_pass() -> None:
    check = full_check()
    add_pattern(check, range(10))
    add_tone(check, 440)
    assert check.failure() is None
    summary = check.summary()
    assert summary["pictures"] == 10
    assert summary["lost"] == 0
    assert summary["tone_hz"] == 440
    assert 0 <= summary["latency_ms"] < 1000


def test_missing_video_or_audio_fails() -> None:
    check = full_check()
    assert check.failure() == "no video arrived"
    add_pattern(check, range(3))
    assert check.failure() == "no audio arrived"


def test_other_video_or_tone_fails() -> None:
    check = full_check()
    for _ in range(10):
        check.add_video(av.VideoFrame.from_ndarray(np.full((240, 320), 90, np.uint8), format="gray"))
    assert check.failure() == "only 0 of 10 video frames show the test pattern"
    check = full_check()
    add_pattern(check, range(3))
    add_tone(check, 1000)
    assert check.failure() == "the audio is not the 440 Hz tone, but 1000 Hz"


def test_lost_frames_are_counted() -> None:
    check = full_check()
    add_pattern(check, range(0, 20, 2))
    assert check.summary()["lost"] == 9


def test_file_with_silence_at_its_end_passes() -> None:
    check = MediaCheck(pattern=False, tone=False, audio=True)
    add_pattern(check, range(3))
    add_tone(check, 300)
    add_tone(check, 300, amplitude=0)
    assert check.failure() is None
    assert check.status_line().endswith("silence")


def test_file_without_audio_passes() -> None:
    check = MediaCheck(pattern=False, tone=False, audio=False)
    add_pattern(check, range(3))
    assert check.failure() is None


def test_one_second_of_the_tone_passes() -> None:
    check = full_check()
    add_pattern(check, range(3))
    add_tone(check, 440)
    assert "440 Hz" in check.status_line()
    add_tone(check, 2000)
    assert check.failure() is None
