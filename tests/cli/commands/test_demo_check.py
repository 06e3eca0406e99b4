"""What the demo takes for pictures and sound that really arrived."""

from __future__ import annotations

import av
import numpy as np

from peer.cli.commands.demo_check import Witness
from peer.media import test_pattern


def tone(witness: Witness, hertz: float, amplitude: float = 0.1) -> None:
    wave = np.sin(2 * np.pi * hertz * np.arange(48_000) / 48_000) * amplitude * 32767
    for block in np.repeat(wave.astype(np.int16), 2).reshape(-1, 1920):
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = 48_000
        witness.hear(frame)


def pictures(witness: Witness, numbers: range) -> None:
    drawn = test_pattern.Pattern(320, 240, 30)
    for number in numbers:
        witness.see(drawn.draw(number))


def whole() -> Witness:
    return Witness(test_picture=True, test_tone=True, sound=True)


def test_the_pattern_and_the_tone_are_enough() -> None:
    witness = whole()
    pictures(witness, range(10))
    tone(witness, 440)
    assert witness.complaint() is None
    summary = witness.summary()
    assert summary["pictures"] == 10
    assert summary["lost"] == 0
    assert summary["tone_hz"] == 440
    assert 0 <= summary["latency_ms"] < 1000


def test_nothing_is_not_enough() -> None:
    witness = whole()
    assert witness.complaint() == "no picture came"
    pictures(witness, range(3))
    assert witness.complaint() == "no sound came"


def test_another_picture_or_tone_is_not_enough() -> None:
    witness = whole()
    for _ in range(10):
        witness.see(av.VideoFrame.from_ndarray(np.full((240, 320), 90, np.uint8), format="gray"))
    assert witness.complaint() == "only 0 of 10 pictures show the test pattern"
    witness = whole()
    pictures(witness, range(3))
    tone(witness, 1000)
    assert witness.complaint() == "the sound is not the tone of 440 Hz, but 1000 Hz"


def test_pictures_that_were_lost_on_the_way_are_counted() -> None:
    witness = whole()
    pictures(witness, range(0, 20, 2))
    assert witness.summary()["lost"] == 9


def test_a_film_may_fall_silent() -> None:
    witness = Witness(test_picture=False, test_tone=False, sound=True)
    pictures(witness, range(3))
    tone(witness, 300)
    tone(witness, 300, amplitude=0)
    assert witness.complaint() is None
    assert witness.line().endswith("silence")


def test_a_film_without_sound_is_enough() -> None:
    witness = Witness(test_picture=False, test_tone=False, sound=False)
    pictures(witness, range(3))
    assert witness.complaint() is None


def test_one_second_of_the_tone_is_enough() -> None:
    witness = whole()
    pictures(witness, range(3))
    tone(witness, 440)
    assert "440 Hz" in witness.line()
    tone(witness, 2000)
    assert witness.complaint() is None
