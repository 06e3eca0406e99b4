"""A microphone by ALSA, whose ``pulse`` device reaches PulseAudio and PipeWire too."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Final

import av

from peer.media.audio.pcm import Recording
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, media_time
from peer.media.sources.audio_framer import Slicer
from peer.media.sources.capture_time import from_age
from peer.media.sources.handoff import Media

STALL: Final = 3.0
"""Seconds without sound after which a microphone is lost: a working one sends its silence too."""

_PERIOD: Final = 0.01
"""Seconds: half of a frame, so that one waits for its last sample no longer than that."""

_BUFFER: Final = 0.5
"""Seconds that the device keeps for us while the machine is busy; it adds no latency."""

_UNSPOKEN: Final = 0.01
"""Seconds of sound that cannot have been spoken yet: of a device without a clock (ALSA's null and file), or of one
whose clock is fast. They are waited for; only the first kind has captured nothing meanwhile, and we are its clock."""


def read(name: str, stop: threading.Event) -> Generator[Media, None, None]:
    """The sound of the ALSA device ``name``, until it is unplugged, or ``stop``.

    Raises:
        OSError: it cannot be opened, or it is gone.
    """
    with contextlib.closing(Recording(plug(name), AUDIO_RATE, _PERIOD, _BUFFER)) as recording:
        slicer, clockless = Slicer(), False
        while not stop.is_set():
            samples, waiting = recording.read(AUDIO_FRAME_SAMPLES)
            moment = from_age((AUDIO_FRAME_SAMPLES + waiting) / AUDIO_RATE)
            clockless = clockless and not waiting
            if clockless and moment - slicer.end < _BUFFER:
                moment = slicer.end  # however late we woke up: what a device keeps for us has no gaps
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            frame.sample_rate = AUDIO_RATE
            yield from slicer.cut(frame, moment)
            unspoken = slicer.end - media_time()
            if unspoken > _UNSPOKEN:
                clockless = True
                if stop.wait(unspoken):
                    return


def plug(name: str) -> str:
    """``hw:`` devices fail with a bare I/O error for a rate or channel count they lack; ``plughw:`` converts."""
    return f"plug{name}" if name.startswith("hw:") else name
