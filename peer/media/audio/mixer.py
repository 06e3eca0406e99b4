"""Several calls into one stream of sound: each behind a small buffer of its own, added, clipped.

A call's buffer takes up the jitter of its network: it begins to play at ``START`` and is cut back to it when it
holds more than ``MOST``, so latency does not grow, whichever clock is the faster one. The loop pushes, the speaker's
thread mixes. No I/O.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from ..frames import AUDIO_RATE

START: Final = AUDIO_RATE * 40 // 1000
"""Samples that a call gathers before it is heard: two Opus packets."""

MOST: Final = AUDIO_RATE * 120 // 1000
"""Samples that a call may have waiting."""

_INBOX: Final = 16
"""Frames between loop and thread, should the thread hang in its device: 0.3 s of Opus packets."""


class _Source:
    """One call's sound, as interleaved stereo at 48 kHz."""

    def __init__(self) -> None:
        self.inbox: deque[av.AudioFrame] = deque(maxlen=_INBOX)
        self._resampler = AudioResampler("s16", "stereo", AUDIO_RATE)
        self._kind: tuple[str, str, int] | None = None
        self._blocks: deque[NDArray[np.int16]] = deque()
        self._held = 0
        self._playing = False

    def take(self, samples: int) -> NDArray[np.int16] | None:
        """The next ``samples`` (n x 2, n at most that), or ``None`` while it gathers."""
        while self.inbox:
            for frame in self._convert(self.inbox.popleft()):
                self._hold(frame.to_ndarray().astype(np.int16, copy=False).reshape(-1, 2))
        if self._held > MOST:
            self._drop(self._held - START)
        self._playing = self._held >= (1 if self._playing else START)
        return self._drop(samples) if self._playing else None

    def _convert(self, frame: av.AudioFrame) -> list[av.AudioFrame]:
        """``frame`` as we play it. A resampler is made for each new kind of frame: it does not look at later ones."""
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            self._kind = kind
            self._resampler = AudioResampler("s16", "stereo", AUDIO_RATE)
        return self._resampler.resample(frame)

    def _hold(self, block: NDArray[np.int16]) -> None:
        self._blocks.append(block)
        self._held += len(block)

    def _drop(self, samples: int) -> NDArray[np.int16]:
        """Remove the oldest ``samples``, and return them."""
        taken = []
        while samples and self._blocks:
            block = self._blocks.popleft()
            if len(block) > samples:
                self._blocks.appendleft(block[samples:])
                block = block[:samples]
            taken.append(block)
            samples -= len(block)
            self._held -= len(block)
        return np.concatenate(taken) if taken else np.zeros((0, 2), np.int16)


class Mixer:
    """All calls that are heard."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, key: str) -> None:
        """A new call; one of the same key is forgotten."""
        with self._lock:
            self._sources[key] = _Source()

    def remove(self, key: str) -> None:
        """What it still held is not played."""
        with self._lock:
            self._sources.pop(key, None)

    def push(self, key: str, frame: av.AudioFrame) -> None:
        """Sound of ``key``, of any rate and layout."""
        source = self._sources.get(key)
        if source is not None:
            source.inbox.append(frame)

    def mix(self, samples: int) -> NDArray[np.int16]:
        """The next ``samples`` of all calls together (n x 2); silence where there is nothing."""
        total = np.zeros((samples, 2), np.int32)
        with self._lock:
            for source in self._sources.values():
                block = source.take(samples)
                if block is not None:
                    total[: len(block)] += block
        return np.clip(total, -32768, 32767).astype(np.int16)
