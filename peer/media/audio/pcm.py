"""ALSA PCM devices through libasound itself: ``PlaybackDevice`` and ``CaptureDevice``. They block: for threads only.

PyAV can do both, but worse. For playback it takes the largest buffer that a device has (up to 131,072 samples,
FFmpeg's ``ALSA_BUFFER_SIZE_MAX``), which adds 2.7 s of latency that cannot be queried. For capture it takes the
shortest period: 375 packets per second instead of 50, which takes 44% of a slow processor instead of 6%. And it
reports every error as "I/O error".

The system's library is preferred, because it finds its own plugins (``pulse`` reaches PulseAudio and PipeWire). The
one in PyAV's wheel is the fallback.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator
from ctypes import POINTER, byref, c_char_p, c_int, c_long, c_uint, c_ulong, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from numpy.typing import NDArray

from .alsa import prepare_environment

CHANNELS: Final = 2

_STREAM_PLAYBACK: Final = 0
_STREAM_CAPTURE: Final = 1
_FORMAT_S16_LE: Final = 2
_ACCESS_RW_INTERLEAVED: Final = 3

_TIME_NEAR: Final = (POINTER(c_uint), POINTER(c_int))
_HARDWARE: Final[dict[str, tuple[Any, ...]]] = {
    "rate_resample": (c_uint,), "access": (c_int,), "format": (c_int,), "channels": (c_uint,),
    "rate": (c_uint, c_int), "period_time_near": _TIME_NEAR, "buffer_time_near": _TIME_NEAR,
}  # fmt: skip
"""Hardware parameters that can be set, with the types of the arguments after device and parameters."""

_error_handler_type = ctypes.CFUNCTYPE(None, c_char_p, c_int, c_char_p, c_int, c_char_p)
_ignore_message = _error_handler_type(lambda file, line, function, error, text: None)


@cache
def _libasound() -> Any:
    """Load libasound and stop it from printing errors to stderr; they are reported as exceptions.

    Raises:
        OSError: the library is missing.
    """
    prepare_environment()
    in_wheel = sorted(map(str, Path(av.__file__).parent.parent.glob("av.libs/libasound*")))
    for path in ("libasound.so.2", *in_wheel):
        try:
            library: Any = ctypes.CDLL(path)
        except OSError:
            continue
        library.snd_pcm_open.argtypes = [POINTER(c_void_p), c_char_p, c_int, c_int]
        library.snd_pcm_set_params.argtypes = [c_void_p, c_int, c_int, c_uint, c_uint, c_int, c_uint]
        library.snd_pcm_writei.argtypes = [c_void_p, c_void_p, c_ulong]
        library.snd_pcm_writei.restype = c_long
        library.snd_pcm_readi.argtypes = [c_void_p, c_void_p, c_ulong]
        library.snd_pcm_readi.restype = c_long
        library.snd_pcm_hw_params_malloc.argtypes = [POINTER(c_void_p)]
        library.snd_pcm_hw_params_free.argtypes = [c_void_p]
        library.snd_pcm_hw_params.argtypes = library.snd_pcm_hw_params_any.argtypes = [c_void_p, c_void_p]
        for name, value in _HARDWARE.items():
            setting = getattr(library, f"snd_pcm_hw_params_set_{name}")
            setting.argtypes = [c_void_p, c_void_p, *value]
        library.snd_pcm_delay.argtypes = [c_void_p, POINTER(c_long)]
        library.snd_pcm_recover.argtypes = [c_void_p, c_int, c_int]
        library.snd_pcm_close.argtypes = [c_void_p]
        library.snd_lib_error_set_handler(_ignore_message)
        return library
    raise OSError(errno.ENOENT, "ALSA's library is missing; install libasound2 and libasound2-plugins")


class _Device:
    """An open PCM device."""

    def __init__(self, name: str, stream: int) -> None:
        self._alsa = _libasound()
        self._pcm: c_void_p | None = None
        pcm = c_void_p()
        _check(self._alsa.snd_pcm_open(byref(pcm), os.fsencode(name), stream, 0))
        self._pcm = pcm

    @contextlib.contextmanager
    def _close_on_error(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close the device; buffered audio is not played. May be called twice."""
        pcm, self._pcm = self._pcm, None
        if pcm is not None:
            self._alsa.snd_pcm_close(pcm)


class PlaybackDevice(_Device):
    """ALSA device ``name``, open for playback: s16 stereo at ``rate`` Hz with a buffer of ``latency`` seconds.

    Raises:
        OSError: ALSA's error: the device does not exist, is busy, or does not support the settings.
    """

    def __init__(self, name: str, rate: int, latency: float) -> None:
        super().__init__(name, _STREAM_PLAYBACK)
        microseconds, resample = round(latency * 1e6), 1
        with self._close_on_error():
            _check(
                self._alsa.snd_pcm_set_params(
                    self._pcm, _FORMAT_S16_LE, _ACCESS_RW_INTERLEAVED, CHANNELS, rate, resample, microseconds
                )
            )

    def write(self, samples: NDArray[np.int16]) -> None:
        """Play ``samples`` (shape (n, 2), contiguous). Blocks while the buffer is full; recovers from an underrun.

        Raises:
            OSError: the device is gone.
        """
        assert samples.flags.c_contiguous and samples.shape[1] == CHANNELS
        while len(samples):
            written = self._alsa.snd_pcm_writei(self._pcm, samples.ctypes.data, len(samples))
            if written < 0:
                _check(self._alsa.snd_pcm_recover(self._pcm, int(written), 1))
            else:
                samples = samples[written:]


class CaptureDevice(_Device):
    """ALSA device ``name``, open for capture: s16 stereo at ``rate`` Hz.

    The device delivers every ``period`` seconds and keeps ``buffer`` seconds for a late reader.

    Raises:
        OSError: ALSA's error: the device does not exist, is busy, or does not support the settings.
    """

    def __init__(self, name: str, rate: int, period: float, buffer: float) -> None:
        super().__init__(name, _STREAM_CAPTURE)
        alsa, pcm, params = self._alsa, self._pcm, c_void_p()
        microseconds = [c_uint(round(seconds * 1e6)) for seconds in (period, buffer)]
        with self._close_on_error():
            _check(alsa.snd_pcm_hw_params_malloc(byref(params)))
            try:
                _check(alsa.snd_pcm_hw_params_any(pcm, params))
                _check(alsa.snd_pcm_hw_params_set_rate_resample(pcm, params, 1))
                _check(alsa.snd_pcm_hw_params_set_access(pcm, params, _ACCESS_RW_INTERLEAVED))
                _check(alsa.snd_pcm_hw_params_set_format(pcm, params, _FORMAT_S16_LE))
                _check(alsa.snd_pcm_hw_params_set_channels(pcm, params, CHANNELS))
                _check(alsa.snd_pcm_hw_params_set_rate(pcm, params, rate, 0))
                _check(alsa.snd_pcm_hw_params_set_period_time_near(pcm, params, byref(microseconds[0]), None))
                _check(alsa.snd_pcm_hw_params_set_buffer_time_near(pcm, params, byref(microseconds[1]), None))
                _check(alsa.snd_pcm_hw_params(pcm, params))
            finally:
                alsa.snd_pcm_hw_params_free(params)

    def read(self, count: int) -> tuple[NDArray[np.int16], int]:
        """Return the next ``count`` samples (shape (1, 2 * count), interleaved) and the number captured beyond them.

        Blocks until they are captured. After an overrun it starts over with audio captured from then on.

        Raises:
            OSError: the device is gone.
        """
        samples, done = np.empty((1, count * CHANNELS), np.int16), 0
        while done < count:
            address = samples.ctypes.data + done * CHANNELS * samples.itemsize
            got = self._alsa.snd_pcm_readi(self._pcm, address, count - done)
            if got < 0:
                code = self._alsa.snd_pcm_recover(self._pcm, int(got), 1)
                _check(
                    -errno.ENODEV if code == -errno.EIO else code
                )  # EIO: from the pulse plugin when its server has died
                done = 0
            else:
                done += got
        waiting = c_long()
        known = self._alsa.snd_pcm_delay(self._pcm, byref(waiting)) >= 0
        return samples, max(0, waiting.value) if known else 0


def _check(code: int) -> None:
    if code < 0:
        raise OSError(-code, os.strerror(-code))
