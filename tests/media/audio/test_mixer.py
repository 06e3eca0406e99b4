"""The mixer and its jitter buffers."""

from __future__ import annotations

import av
import numpy as np
import pytest

from peer.media.audio.mixer import MAX_SAMPLES, TARGET_SAMPLES, Mixer

BLOCK = 960


def frame(level: int, samples: int = BLOCK, rate: int = 48_000, layout: str = "stereo") -> av.AudioFrame:
    channels = 2 if layout == "stereo" else 1
    it = av.AudioFrame.from_ndarray(np.full((1, samples * channels), level, np.int16), "s16", layout)
    it.sample_rate = rate
    return it


def _mixer(**levels: int) -> Mixer:
    """Return a mixer with calls whose buffers are filled to the target."""
    mixer = Mixer()
    for key, level in levels.items():
        mixer.add(key)
        for _ in range(TARGET_SAMPLES // BLOCK):
            mixer.push(key, frame(level))
    return mixer


def test_mixer_adds_calls() -> None:
    assert (_mixer(door=1000, yard=200).mix(BLOCK) == 1200).all()


def test_mixer_clips_a_loud_sum() -> None:
    assert (_mixer(door=30_000, yard=30_000).mix(BLOCK) == 32767).all()
    assert (_mixer(door=-30_000, yard=-30_000).mix(BLOCK) == -32768).all()


def test_mixer_without_calls_is_silent() -> None:
    assert not Mixer().mix(BLOCK).any() and Mixer().mix(BLOCK).shape == (BLOCK, 2)


def test_mixer_plays_a_call_from_its_target_buffer_on() -> None:
    mixer = Mixer()
    mixer.add("door")
    mixer.push("door", frame(7))
    assert not mixer.mix(BLOCK).any()
    mixer.push("door", frame(7))
    assert (mixer.mix(BLOCK) == 7).all() and (mixer.mix(BLOCK) == 7).all()


def test_mixer_underrun_refills_and_other_calls_play_on() -> None:
    mixer = _mixer(door=7, yard=100)
    for _ in range(2):
        mixer.push("yard", frame(100))
    assert [int(mixer.mix(BLOCK)[0, 0]) for _ in range(3)] == [107, 107, 100]
    mixer.push("door", frame(7))
    assert (mixer.mix(BLOCK) == 100).all()


def test_mixer_burst_is_cut_back_to_the_newest() -> None:
    mixer = Mixer()
    mixer.add("door")
    for level in range(1, MAX_SAMPLES // BLOCK + 4):
        mixer.push("door", frame(level))
    newest = MAX_SAMPLES // BLOCK + 3
    assert [int(mixer.mix(BLOCK)[0, 0]) for _ in range(3)] == [newest - 1, newest, 0]


def test_mixer_fast_clock_does_not_add_latency() -> None:
    mixer = _mixer(door=1)
    for n in range(500):
        mixer.push("door", frame(1))
        if n % 10 == 0:
            mixer.push("door", frame(1))
        mixer.mix(BLOCK)
    left = 0
    while mixer.mix(BLOCK).any():
        left += BLOCK
    assert left <= MAX_SAMPLES


@pytest.mark.parametrize(("rate", "layout"), [(8000, "mono"), (16_000, "mono"), (48_000, "mono"), (44_100, "stereo")])
def test_mixer_plays_any_rate_and_layout_on_both_channels(rate: int, layout: str) -> None:
    mixer = Mixer()
    mixer.add("door")
    heard = []
    for n in range(20):
        mixer.push("door", frame(5000, rate // 50, rate, layout))
        if n > 3:
            heard.append(mixer.mix(BLOCK))
    middle = np.concatenate(heard)[4 * BLOCK : -4 * BLOCK]
    expected = 5000 if layout == "stereo" else 5000 / np.sqrt(2)  # mono is spread to both channels with equal power
    assert np.abs(middle - expected).max() < 50


def test_mixer_follows_a_change_of_format() -> None:
    mixer = _mixer(door=9)
    for _ in range(8):
        mixer.push("door", frame(3000, 160, 8000, "mono"))
    assert any(abs(int(mixer.mix(BLOCK)[500, 1]) - 3000 / np.sqrt(2)) < 50 for _ in range(6))


def test_mixer_removed_call_is_silent_at_once() -> None:
    mixer = _mixer(door=7)
    mixer.remove("door")
    mixer.push("door", frame(7))
    assert not mixer.mix(BLOCK).any() and len(mixer) == 0
