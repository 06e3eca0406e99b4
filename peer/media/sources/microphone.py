"""A microphone as a source, through ALSA; its ``pulse`` device reaches PulseAudio and PipeWire too."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Final

import av

from peer.errors import MediaError
from peer.media.audio.pcm import CaptureDevice
from peer.media.failure import media_error
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, media_time
from peer.media.sources import devices
from peer.media.sources.audio_framer import AudioFramer
from peer.media.sources.capture_time import from_age
from peer.media.sources.handoff import Media

STALL: Final = 3.0
"""Time without audio after which a microphone counts as lost, in seconds. A working one delivers its silence too."""

_CARD: Final = re.compile(r"(?:plug)?hw:(?:CARD=)?([^,]+).*")
"""The sound card, by number or id, in the name of an ALSA device."""

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


class AnyMicrophone:
    """The first microphone that works, looked for at each opening. One that delivered before comes first."""

    def __init__(self) -> None:
        self._last = ""
        self._tried = ""
        """Name of the device that was opened last, as long as it has not delivered. Others come before it."""

    def read(self, stop: threading.Event) -> Generator[Media, None, None]:
        """Yield the audio of the first device that can be opened until it is unplugged or ``stop`` is set.

        Raises:
            MediaError: there is no microphone, or none can be opened.
            OSError: the device is gone.
        """
        problems: list[MediaError] = []
        for name in self._candidates():
            self._tried, delivered = name, False
            try:
                with contextlib.closing(read(name, stop)) as frames:
                    for frame in frames:
                        delivered, self._last, self._tried = True, name, ""
                        yield frame
                return
            except OSError as problem:
                if delivered:
                    raise
                problems.append(media_error(name, problem))
        why = "; ".join(f"{problem.what}: {problem.why}" for problem in problems)
        raise MediaError("microphone", f"none works ({why})", "`peer devices` lists them", cause=problems[0].cause)

    def present(self) -> bool:
        """Whether the device that delivered last still exists, as far as is known."""
        return not self._last or present(self._last)

    def _candidates(self) -> list[str]:
        found = [device.device for device in devices.list_microphones()]
        if not found:
            hint = "plug one in; --audio test sends a tone"
            raise MediaError("microphone", "no microphone found", hint, cause="missing")
        return sorted(found, key=lambda name: (name == self._tried, name != self._last))


def present(name: str, asound: Path = devices.ASOUND) -> bool:
    """Whether the sound card of ALSA device ``name`` exists; true for devices that name no card."""
    card = _CARD.fullmatch(name)
    if card is None:
        return True
    return (asound / (f"card{card[1]}" if card[1].isdigit() else card[1])).exists()


def with_conversion(name: str) -> str:
    """Replace ``hw:`` by ``plughw:``, which converts rates and channels. ``hw:`` fails with a bare I/O error."""
    return f"plug{name}" if name.startswith("hw:") else name
