"""A microphone as a source, through ALSA; its ``pulse`` device reaches PulseAudio and PipeWire too."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from typing import Final

import av

from peer.media.audio.pcm import CaptureDevice
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, media_time
from peer.media.sources.audio_framer import AudioFramer
from peer.media.sources.capture_time import from_age
from peer.media.sources.handoff import Media

STALL: Final = 3.0
"""Time without audio after which a microphone counts as lost, in seconds. A working one delivers its silence too."""

_PERIOD: Final = 0.01
"""ALSA's period, in seconds: half a frame, so a frame waits for its last sample no longer than that."""

_BUFFER: Final = 0.5
"""Audio that the device keeps while this machine is busy, in seconds. It adds no latency."""

_MAX_AHEAD: Final = 0.01
"""Maximum lead of the sample count over the clock, in seconds. A device that is further ahead has no clock (ALSA's
``null`` and ``file``) or a fast one. Reading then pauses for the lead: our clock paces a device that has none."""


def read(name: str, stop: threading.Event) -> Generator[Media, None, None]:
    """Yield the audio of the ALSA device ``name`` until it is unplugged or ``stop`` is set.

    Raises:
        OSError: the device cannot be opened, or is gone.
    """
    with contextlib.closing(CaptureDevice(with_conversion(name), AUDIO_RATE, _PERIOD, _BUFFER)) as device:
        framer, has_no_clock = AudioFramer(), False
        while not stop.is_set():
            samples, waiting = device.read(AUDIO_FRAME_SAMPLES)
            capture_time = from_age((AUDIO_FRAME_SAMPLES + waiting) / AUDIO_RATE)
            has_no_clock = has_no_clock and not waiting
            if has_no_clock and capture_time - framer.end < _BUFFER:
                capture_time = framer.end  # however late this thread woke up: the device's buffer has no gaps
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            frame.sample_rate = AUDIO_RATE
            yield from framer.push(frame, capture_time)
            ahead = framer.end - media_time()
            if ahead > _MAX_AHEAD:
                has_no_clock = True
                if stop.wait(ahead):
                    return


def with_conversion(name: str) -> str:
    """Replace ``hw:`` by ``plughw:``, which converts rates and channels. ``hw:`` fails with a bare I/O error."""
    return f"plug{name}" if name.startswith("hw:") else name
