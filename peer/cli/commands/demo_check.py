"""Check of the media that ``peer demo`` receives: test pattern, its latency, and the tone."""

from __future__ import annotations

import math
import statistics
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...media.frames import AUDIO_RATE
from ...media.test_pattern import TONE, dominant_frequency, read_pattern

if TYPE_CHECKING:
    import av

_QUIET_DB: Final = -60.0
"""Maximum level of silence, in dB below full scale. The test tone has about -20 dB."""

_SILENCE_DB: Final = -120.0
"""Level of digital silence, whose logarithm would be infinite."""

_TONE_TOLERANCE: Final = 5.0
"""Maximum deviation of the tone, in Hz."""


class MediaCheck:
    """A check of decoded frames; ``failure`` names what is missing or wrong.

    Args:
        pattern: the video must be the test pattern.
        tone: the audio must be the test tone.
        audio: there must be audio.
    """

    def __init__(self, *, pattern: bool, tone: bool, audio: bool) -> None:
        self._pattern = pattern
        self._tone = tone
        self._audio = audio
        self._frames = 0
        self._frames_read = 0
        self._lost = 0
        self._last_number: int | None = None
        self._latencies: deque[float] = deque(maxlen=600)  # seconds
        self._arrivals: deque[float] = deque(maxlen=240)  # of at least the last second
        self._max_level = _SILENCE_DB
        self._tone_found = False
        self._samples: deque[Any] = deque(maxlen=50)  # one second of 20 ms frames, mono

    def add_video(self, frame: av.VideoFrame) -> None:
        """Check one decoded video frame."""
        self._frames += 1
        self._arrivals.append(time.monotonic())
        reading = read_pattern(frame.to_ndarray(format="gray")) if self._pattern else None
        if reading is not None:
            self._frames_read += 1
            self._latencies.append(reading.age())
            if self._last_number is not None:
                self._lost += max(0, reading.frame - self._last_number - 1)
            self._last_number = reading.frame

    def add_audio(self, frame: av.AudioFrame) -> None:
        """Check one decoded audio frame."""
        samples = frame.to_ndarray().astype(np.float64)
        if frame.format.name.startswith("s16"):
            samples /= 32768
        channels = len(frame.layout.channels)
        mono = samples.mean(axis=0) if frame.format.is_planar else samples.reshape(-1, channels).mean(axis=1)
        self._samples.append(mono)
        self._max_level = max(self._max_level, _level(mono))

    @property
    def level(self) -> float:
        """Audio level of the last second, in dB below full scale."""
        return _level(np.concatenate(self._samples)) if self._samples else _SILENCE_DB

    @property
    def frequency(self) -> float:
        """The strongest frequency of the last second, in Hz."""
        return dominant_frequency(np.concatenate(self._samples), AUDIO_RATE) if self._samples else 0.0

    def status_line(self) -> str:
        """The last second, as text."""
        since = time.monotonic() - 1
        if self._tone:
            self._find_tone()
        parts = [f"{sum(arrival > since for arrival in self._arrivals)} frames/s"]
        if self._latencies:
            parts.append(f"latency {self._latency_ms()} ms")
        if self._audio:
            frequency = f"{self.frequency:.0f} Hz at " if self._tone else ""
            parts.append(f"audio {frequency}{self.level:.0f} dB" if self.level > _QUIET_DB else "silence")
        return ", ".join(parts)

    def summary(self) -> dict[str, Any]:
        """The keys of the ``demo`` event (docs/interface.md)."""
        body: dict[str, Any] = {"pictures": self._frames, "level_db": round(self.level, 1)}
        if self._latencies:
            body |= {"latency_ms": self._latency_ms(), "lost": self._lost}
        if self._tone:
            body["tone_hz"] = round(self.frequency)
        return body

    def failure(self) -> str | None:
        """What is missing or wrong, or ``None``."""
        if self._frames == 0:
            return "no video arrived"
        if self._pattern and self._frames_read < self._frames / 2:
            return f"only {self._frames_read} of {self._frames} video frames show the test pattern"
        if self._audio and self._max_level <= _QUIET_DB:
            return "no audio arrived"
        if self._tone and not self._find_tone():
            return f"the audio is not the {TONE} Hz tone, but {self.frequency:.0f} Hz"
        return None

    def _find_tone(self) -> bool:
        """Whether the tone dominated any second so far. In a second with gaps, the beep may be stronger."""
        self._tone_found = self._tone_found or abs(self.frequency - TONE) <= _TONE_TOLERANCE
        return self._tone_found

    def _latency_ms(self) -> int:
        return round(statistics.median(self._latencies) * 1000)


def _level(samples: Any) -> float:
    energy = float(np.mean(np.square(samples)))
    return max(_SILENCE_DB, 10 * math.log10(energy)) if energy > 0 else _SILENCE_DB
