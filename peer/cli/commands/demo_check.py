"""What ``peer demo`` saw and heard: pictures counted, their latency read from the pattern, the tone recognised."""

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
_SILENCE_DB: Final = -120.0
_TONE_WITHIN: Final = 5.0  # Hz


class Witness:
    """Takes decoded frames; ``complaint`` says what is missing of what was sent."""

    def __init__(self, *, test_picture: bool, test_tone: bool, sound: bool) -> None:
        self._test_picture = test_picture
        self._test_tone = test_tone
        self._sound = sound
        self._began = time.monotonic()
        self._pictures = 0
        self._read = 0
        self._lost = 0
        self._last: int | None = None
        self._ages: deque[float] = deque(maxlen=600)
        self._recent: deque[float] = deque(maxlen=240)  # when the pictures of the last second came
        self._loudest = _SILENCE_DB
        self._heard_tone = False
        self._samples: deque[Any] = deque(maxlen=50)  # a second of 20 ms blocks, mono

    def see(self, frame: av.VideoFrame) -> None:
        """One more picture."""
        self._pictures += 1
        self._recent.append(time.monotonic())
        reading = read_pattern(frame.to_ndarray(format="gray")) if self._test_picture else None
        if reading is not None:
            self._read += 1
            self._ages.append(reading.age())
            if self._last is not None:
                self._lost += max(0, reading.frame - self._last - 1)
            self._last = reading.frame

    def hear(self, frame: av.AudioFrame) -> None:
        """One more block of sound."""
        samples = frame.to_ndarray().astype(np.float64)
        if frame.format.name.startswith("s16"):
            samples /= 32768
        channels = len(frame.layout.channels)
        mono = samples.mean(axis=0) if frame.format.is_planar else samples.reshape(-1, channels).mean(axis=1)
        self._samples.append(mono)
        self._loudest = max(self._loudest, _level(mono))

    @property
    def level(self) -> float:
        """Of the last second of sound, in dB below full scale."""
        return _level(np.concatenate(self._samples)) if self._samples else _SILENCE_DB

    @property
    def tone(self) -> float:
        """The strongest frequency of the last second, in Hz."""
        return dominant_frequency(np.concatenate(self._samples), AUDIO_RATE) if self._samples else 0.0

    def line(self) -> str:
        """The last second, in words."""
        since = time.monotonic() - 1
        if self._test_tone:
            self._hears_tone()
        parts = [f"{sum(moment > since for moment in self._recent)} pictures/s"]
        if self._ages:
            parts.append(f"{self._latency()} ms from drawn to seen")
        if self._sound:
            tone = f"{self.tone:.0f} Hz at " if self._test_tone else ""
            parts.append(f"sound {tone}{self.level:.0f} dB" if self.level > _QUIET_DB else "silence")
        return ", ".join(parts)

    def summary(self) -> dict[str, Any]:
        """The whole of it, for programs."""
        body: dict[str, Any] = {"pictures": self._pictures, "level_db": round(self.level, 1)}
        if self._ages:
            body |= {"latency_ms": self._latency(), "lost": self._lost}
        if self._test_tone:
            body["tone_hz"] = round(self.tone)
        return body

    def complaint(self) -> str | None:
        """What is missing, or ``None``."""
        if self._pictures == 0:
            return "no picture came"
        if self._test_picture and self._read < self._pictures / 2:
            return f"only {self._read} of {self._pictures} pictures show the test pattern"
        if self._sound and self._loudest <= _QUIET_DB:
            return "no sound came"
        if self._test_tone and not self._hears_tone():
            return f"the sound is not the tone of {TONE} Hz, but {self.tone:.0f} Hz"
        return None

    def _hears_tone(self) -> bool:
        """Whether any second so far was the tone: in one with gaps the beep may be stronger."""
        self._heard_tone = self._heard_tone or abs(self.tone - TONE) <= _TONE_WITHIN
        return self._heard_tone

    def _latency(self) -> int:
        return round(statistics.median(self._ages) * 1000)


def _level(samples: Any) -> float:
    energy = float(np.mean(np.square(samples)))
    return max(_SILENCE_DB, 10 * math.log10(energy)) if energy > 0 else _SILENCE_DB
