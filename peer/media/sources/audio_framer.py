"""Audio of any format, rate and frame length, converted to 20 ms frames of s16 stereo at 48 kHz."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import av
import numpy as np

from peer.media.audio.resampler import Resampler
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TIME_BASE

MAX_DRIFT: Final = 0.04
"""Maximum difference between the sample count and the capture clock, in seconds, before the timestamps are corrected.
Two clocks never run at the same rate: at 100 ppm that is once in seven minutes, and a receiver's jitter buffer hides
a jump of 40 ms."""

_SAMPLE_BYTES: Final = 4
"""Size of a sample of both channels, in bytes."""

_FRAME_BYTES: Final = AUDIO_FRAME_SAMPLES * _SAMPLE_BYTES


class AudioFramer:
    """Resampled and re-framed audio. Timestamps count samples from the capture time of the first one.

    When a capture time differs from the sample count by more than ``MAX_DRIFT``, timestamps jump forward over a gap,
    or the surplus audio is dropped, all of it: otherwise audio stays ``MAX_DRIFT`` behind the video. Timestamps never
    go back.
    """

    def __init__(self) -> None:
        self._resampler = Resampler()
        self._buffer = bytearray()
        self._pts: int | None = None
        """Timestamp of the first sample in ``_buffer``, in samples."""
        self._surplus = 0
        """Number of samples still to drop."""

    @property
    def end(self) -> float:
        """End of the audio received so far, in seconds of ``media_time()``."""
        return ((self._pts or 0) + len(self._buffer) // _SAMPLE_BYTES) / AUDIO_RATE

    def push(self, frame: av.AudioFrame, capture_time: float) -> Iterator[av.AudioFrame]:
        """Yield the 20 ms frames that ``frame`` completes; its first sample was captured at ``capture_time``
        seconds."""
        frame.pts = None  # with timestamps, the resampler would fill gaps by rules of its own
        for part in self._resampler.resample(frame):
            self._align(round(capture_time * AUDIO_RATE))
            dropped = min(self._surplus, part.samples)
            self._surplus -= dropped
            self._buffer += part.to_ndarray().tobytes()[dropped * _SAMPLE_BYTES :]
            capture_time += part.samples / AUDIO_RATE
        while len(self._buffer) >= _FRAME_BYTES:
            assert self._pts is not None
            samples = np.frombuffer(bytes(self._buffer[:_FRAME_BYTES]), np.int16).reshape(1, -1)
            del self._buffer[:_FRAME_BYTES]
            framed = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
            framed.sample_rate, framed.pts, framed.time_base = AUDIO_RATE, self._pts, AUDIO_TIME_BASE
            self._pts += AUDIO_FRAME_SAMPLES
            yield framed

    def _align(self, pts: int) -> None:
        """Correct the sample count if it differs too much from ``pts``, where the next audio starts."""
        ahead = self._pts + len(self._buffer) // _SAMPLE_BYTES - pts if self._pts is not None else 0
        if self._pts is None or ahead < -MAX_DRIFT * AUDIO_RATE:
            self._buffer.clear()
            self._pts, self._surplus = pts, 0
        elif self._surplus or ahead > MAX_DRIFT * AUDIO_RATE:
            self._surplus = max(0, ahead)
