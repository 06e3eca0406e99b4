"""The mixer: adds the audio of all calls, each through a jitter buffer of its own. No I/O.

A call's buffer starts to play at ``TARGET_SAMPLES`` and is cut back to that when it holds more than ``MAX_SAMPLES``.
So latency does not grow, whichever of the two clocks is faster. The event loop pushes, the speaker's thread mixes.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from ..frames import AUDIO_RATE
from .resampler import Resampler

TARGET_SAMPLES: Final = AUDIO_RATE * 40 // 1000
"""Samples that a call buffers before it is played: two Opus packets."""

MAX_SAMPLES: Final = AUDIO_RATE * 120 // 1000
"""Maximum samples that a call may have buffered."""

_MAX_QUEUED: Final = 16
"""Maximum frames queued between event loop and thread while the device blocks the thread: 0.3 s of Opus packets."""


class _JitterBuffer:
    """The jitter buffer of one call, as interleaved stereo at 48 kHz."""

    def __init__(self) -> None:
        self.queue: deque[av.AudioFrame] = deque(maxlen=_MAX_QUEUED)
        self._resampler = Resampler()
        self._blocks: deque[NDArray[np.int16]] = deque()
        self._buffered = 0
        self._playing = False

    def read(self, samples: int) -> NDArray[np.int16] | None:
        """Return up to ``samples`` (shape (n, 2)), or ``None`` while the buffer fills up to its target."""
        while self.queue:
            for frame in self._resampler.resample(self.queue.popleft()):
                self._append(frame.to_ndarray().astype(np.int16, copy=False).reshape(-1, 2))
        if self._buffered > MAX_SAMPLES:
            self._remove(self._buffered - TARGET_SAMPLES)
        self._playing = self._buffered >= (1 if self._playing else TARGET_SAMPLES)
        return self._remove(samples) if self._playing else None

    def _append(self, block: NDArray[np.int16]) -> None:
        self._blocks.append(block)
        self._buffered += len(block)

    def _remove(self, samples: int) -> NDArray[np.int16]:
        """Remove and return up to ``samples`` of the oldest samples."""
        taken = []
        while samples and self._blocks:
            block = self._blocks.popleft()
            if len(block) > samples:
                self._blocks.appendleft(block[samples:])
                block = block[:samples]
            taken.append(block)
            samples -= len(block)
            self._buffered -= len(block)
        return np.concatenate(taken) if taken else np.zeros((0, 2), np.int16)


class Mixer:
    """The mixer of all calls that were added, by key."""

    def __init__(self) -> None:
        self._buffers: dict[str, _JitterBuffer] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._buffers)

    def add(self, key: str) -> None:
        """Add a call with an empty buffer. It replaces one with the same key."""
        with self._lock:
            self._buffers[key] = _JitterBuffer()

    def remove(self, key: str) -> None:
        """Remove a call. Its buffered audio is not played."""
        with self._lock:
            self._buffers.pop(key, None)

    def push(self, key: str, frame: av.AudioFrame) -> None:
        """Queue a frame of any format, rate and layout for call ``key``; ignored if there is no such call."""
        buffer = self._buffers.get(key)
        if buffer is not None:
            buffer.queue.append(frame)

    def mix(self, samples: int) -> NDArray[np.int16]:
        """Return the next ``samples`` of all calls, added and clipped, shape (samples, 2); silence where there is
        none."""
        total = np.zeros((samples, 2), np.int32)
        with self._lock:
            for buffer in self._buffers.values():
                block = buffer.read(samples)
                if block is not None:
                    total[: len(block)] += block
        return np.clip(total, -32768, 32767).astype(np.int16)
