"""The audio of one source in one codec, encoded once for all viewers, in real time, with silence in its gaps.

The encoded audio has no gaps and does not end, because receivers mistake a gap in the timestamps for packet loss.
"""

from __future__ import annotations

import asyncio
import logging
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from ...rtp.packetizer import packetize
from ..fanout import Fanout, Reader
from ..frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TIME_BASE, OutgoingFrame, media_time
from .encoder import AudioEncoder

log = logging.getLogger(__name__)

MAX_LATENESS: Final = 0.1
"""Time after which silence replaces a missing audio frame, in seconds. Devices deliver frames in groups."""

LATE_PERIOD: Final = 0.2
"""Minimum time for which all audio must be late before a delay is added, in seconds. A backlog that arrives in one
burst takes less, and must not add one."""

EARLY_PERIOD: Final = 5.0
"""Time for which all audio must be early before the delay is reduced, in seconds. The audio is then in sync with the
video again."""

RESTART_DELAY: Final = 1.0
"""Time after which an encoder that failed is replaced, in seconds. One that cannot be created fails at each frame."""

QUEUE_SIZE: Final = 10
"""Maximum number of audio frames that wait for a busy encoder or sender: 200 ms. The oldest are dropped."""


class GapFiller:
    """The frames of ``reader`` as one stream without gaps: frames of 20 ms, s16 stereo, in real time."""

    def __init__(self, reader: Reader[av.AudioFrame]) -> None:
        self._reader = reader
        self._next_pts: int | None = None
        """The pts of the next frame to be returned; ``None`` before the first one."""
        self._delay = 0
        """Delay added to all audio, in samples, because the source has an unexpected latency."""
        self._late_frames = 0
        """Number of consecutive late frames."""
        self._late_since = self._observed_since = 0.0
        self._min_margin = math.inf
        """Minimum time, in seconds, by which a frame came before silence replaced it, since ``_observed_since``."""

    async def get(self) -> av.AudioFrame:
        """Return the next 20 ms of audio."""
        while True:
            frame = await self._wait_for_frame(self._time_left())
            if frame is None:
                return self._silence()
            pts = self._schedule(frame)
            if pts is not None:
                return self._make_frame(frame.to_ndarray(), pts)

    async def _wait_for_frame(self, timeout: float) -> av.AudioFrame | None:
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await self._reader.get()
                except StopAsyncIteration:  # the source is closed for good
                    await asyncio.sleep(timeout)
        except TimeoutError:
            pass
        return None

    def _time_left(self) -> float:
        """Return the seconds until silence has to replace the next frame."""
        if self._next_pts is None:
            return MAX_LATENESS
        return (self._next_pts + AUDIO_FRAME_SAMPLES) / AUDIO_RATE + MAX_LATENESS - media_time()

    def _schedule(self, frame: av.AudioFrame) -> int | None:
        """Return the pts at which ``frame`` is sent, or ``None`` if it is dropped because silence has replaced it.

        If a source stays late, its latency is larger than expected. All its audio is then delayed by the difference,
        until it comes earlier again.
        """
        now = media_time()
        self._reduce_delay((frame.pts or 0) + self._delay, now)
        pts = (frame.pts or 0) + self._delay
        if self._next_pts is None:
            return pts
        if pts > self._next_pts - AUDIO_FRAME_SAMPLES:
            self._late_frames = 0
            return max(pts, self._next_pts)
        if self._next_pts > now * AUDIO_RATE:
            return None  # the delay was reduced, and the audio sent so far reaches into the future
        if self._late_frames == 0:
            self._late_since = now
        self._late_frames += 1
        if self._late_frames <= QUEUE_SIZE or now - self._late_since < LATE_PERIOD:
            return None
        self._delay += self._next_pts - pts
        self._observed_since, self._min_margin = now, math.inf
        return self._next_pts

    def _reduce_delay(self, pts: int, now: float) -> None:
        """Reduce the delay if even the latest frame of a period had a large margin with it."""
        margin = (pts + AUDIO_FRAME_SAMPLES) / AUDIO_RATE + MAX_LATENESS - now
        self._min_margin = min(self._min_margin, margin)
        if now - self._observed_since >= EARLY_PERIOD:
            if self._min_margin > MAX_LATENESS:  # each frame was scheduled later than it was captured
                excess = round((self._min_margin - MAX_LATENESS / 2) * AUDIO_RATE)
                self._delay = max(0, self._delay - excess)
            self._observed_since, self._min_margin = now, math.inf

    def _silence(self) -> av.AudioFrame:
        oldest = round((media_time() - MAX_LATENESS) * AUDIO_RATE) - AUDIO_FRAME_SAMPLES
        if self._next_pts is None or oldest - self._next_pts > QUEUE_SIZE * AUDIO_FRAME_SAMPLES:
            self._next_pts = max(0, oldest)
        return self._make_frame(np.zeros((1, 2 * AUDIO_FRAME_SAMPLES), np.int16), self._next_pts)

    def _make_frame(self, samples: npt.NDArray[Any], pts: int) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, pts, AUDIO_TIME_BASE
        self._next_pts = pts + AUDIO_FRAME_SAMPLES
        return frame


class AudioEncoding:
    """The encoding of ``frames`` in ``codec`` (FFmpeg's name), which runs while it has readers."""

    def __init__(self, tasks: asyncio.TaskGroup, frames: Fanout[av.AudioFrame], codec: str) -> None:
        self._tasks = tasks
        self._frames = frames
        self._codec = codec
        self._encoded: Fanout[OutgoingFrame] = Fanout(self._start, self._stop)
        self._reader: Reader[av.AudioFrame] | None = None
        self._task: asyncio.Task[None] | None = None

    def read(self) -> Reader[OutgoingFrame]:
        """Return a reader for one viewer."""
        return self._encoded.read(QUEUE_SIZE)

    def _start(self) -> None:
        self._reader = reader = self._frames.read(QUEUE_SIZE)
        self._task = self._tasks.create_task(self._run(reader), name=f"encode {self._codec}")

    def _stop(self) -> None:
        assert self._reader is not None and self._task is not None
        self._reader.close()  # not in the task, which does nothing if it is cancelled before its first step
        self._task.cancel()

    async def _run(self, reader: Reader[av.AudioFrame]) -> None:
        loop = asyncio.get_running_loop()
        encoder: AudioEncoder | None = None
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"encode {self._codec}")
        frames = GapFiller(reader)
        try:
            while True:
                frame = await frames.get()
                try:
                    if encoder is None:
                        encoder = AudioEncoder(self._codec)
                    packets = await loop.run_in_executor(pool, encoder.encode, frame)
                    for packet in packets:
                        payloads = tuple(packetize(self._codec, packet.data))
                        self._encoded.put(OutgoingFrame(payloads, packet.pts, True))
                except Exception as exc:  # of the encoder, or a bug: calls must go on
                    log.warning("the %s encoder failed and is restarted: %r", self._codec, exc)
                    encoder = None
                    await asyncio.sleep(RESTART_DELAY)
        finally:
            pool.shutdown(wait=False)
