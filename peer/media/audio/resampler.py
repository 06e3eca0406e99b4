"""Resampling of audio whose format may change on the way."""

from __future__ import annotations

import av

from ..frames import AUDIO_RATE


class Resampler:
    """Converter of audio of any format, rate and layout to s16 stereo at 48 kHz.

    PyAV's resampler is set up for the format of its first frame. It raises an error on another one, or returns the
    frame unconverted, so a new one is made for each format.
    """

    def __init__(self) -> None:
        self._resampler = av.AudioResampler("s16", "stereo", AUDIO_RATE)
        self._input_format: tuple[str, str, int] | None = None

    def resample(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """Return the converted frames. Some samples may be kept for the next call."""
        input_format = (frame.format.name, frame.layout.name, frame.sample_rate)
        if input_format != self._input_format:
            self._resampler = av.AudioResampler("s16", "stereo", AUDIO_RATE)
            self._input_format = input_format
        return self._resampler.resample(frame)
