"""Sound of any shape cut into the one that travels inside of the program: 20 ms of s16 stereo at 48 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import av
import numpy as np

from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TIME_BASE

DRIFT: Final = 0.04
"""Seconds that the count of samples may be off the clock before it is set right. Two clocks never run alike: at
100 ppm that is once in seven minutes, and a jump of 40 ms is what a receiver's jitter buffer hides."""

_FRAME_BYTES: Final = AUDIO_FRAME_SAMPLES * 4


class Slicer:
    """Frames in, frames out, stamped by counting samples from the moment of the first one.

    When the moments that come in run away from the count by more than ``DRIFT``, a gap is skipped (the stamps jump
    forward), and what is too much is dropped: stamps never go back.
    """

    def __init__(self) -> None:
        self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=AUDIO_RATE)
        self._shape: tuple[str, str, int] | None = None
        self._bytes = bytearray()
        self._pts: int | None = None
        """Of the first sample in ``_bytes``."""

    @property
    def end(self) -> float:
        """Seconds of ``media_time()`` at which the sound that came in so far ends."""
        return ((self._pts or 0) + len(self._bytes) // 4) / AUDIO_RATE

    def cut(self, frame: av.AudioFrame, moment: float) -> Iterator[av.AudioFrame]:
        """The frames that ``frame`` completes; its first sample was heard at ``moment``."""
        frame.pts = None  # the resampler would fill gaps by its own idea
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape:  # a stream may change it on the way, a resampler refuses that
            self._resampler = av.AudioResampler(format="s16", layout="stereo", rate=AUDIO_RATE)
            self._shape = shape
        for part in self._resampler.resample(frame):
            if self._align(round(moment * AUDIO_RATE)):
                self._bytes += part.to_ndarray().tobytes()
            moment += part.samples / AUDIO_RATE
        while len(self._bytes) >= _FRAME_BYTES:
            assert self._pts is not None
            samples = np.frombuffer(bytes(self._bytes[:_FRAME_BYTES]), np.int16).reshape(1, -1)
            del self._bytes[:_FRAME_BYTES]
            piece = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            piece.sample_rate, piece.pts, piece.time_base = AUDIO_RATE, self._pts, AUDIO_TIME_BASE
            self._pts += AUDIO_FRAME_SAMPLES
            yield piece

    def _align(self, wanted: int) -> bool:
        """Whether the sound that starts at sample ``wanted`` is to be taken."""
        ahead = self._pts + len(self._bytes) // 4 - wanted if self._pts is not None else 0
        if self._pts is None or ahead < -DRIFT * AUDIO_RATE:
            self._bytes.clear()
            self._pts = wanted
        return ahead <= DRIFT * AUDIO_RATE
