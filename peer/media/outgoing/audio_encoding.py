"""The sound of one source in one codec, coded once for all who listen, in real time; silence where there is none.

What is sent never has a hole and never ends: receivers take a pause in the timestamps for lost packets.
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

SILENCE_AFTER: Final = 0.1
"""Seconds of sound that may be late before silence fills the gap: captured sound comes in pieces."""

LATE_FOR: Final = 0.2
"""Seconds for which all sound must be late before its time is moved: what was held up comes in one rush."""

SETTLE: Final = 5.0
"""Seconds for which all sound must come early before its time is moved back, nearer to that of the pictures."""

QUEUE: Final = 10
"""Sound frames that wait for a busy encoder or sender, 200 ms; older ones are dropped."""


class Continuous:
    """Makes one stream without holes of what ``reader`` brings: frames of 20 ms, s16 stereo, in real time."""

    def __init__(self, reader: Reader[av.AudioFrame]) -> None:
        self._reader = reader
        self._next_pts: int | None = None
        self._lag = 0
        self._late = 0
        self._late_since = self._watched_since = 0.0
        self._spare = math.inf

    async def get(self) -> av.AudioFrame:
        """The next 20 ms of sound."""
        while True:
            frame = await self._next(self._patience())
            if frame is None:
                return self._silence()
            pts = self._moment(frame)
            if pts is not None:
                return self._send(frame.to_ndarray(), pts)

    async def _next(self, patience: float) -> av.AudioFrame | None:
        try:
            async with asyncio.timeout(patience):
                try:
                    return await self._reader.get()
                except StopAsyncIteration:  # the source is gone for good
                    await asyncio.sleep(patience)
        except TimeoutError:
            pass
        return None

    def _patience(self) -> float:
        """Seconds until silence must stand in for the next frame."""
        if self._next_pts is None:
            return SILENCE_AFTER
        return (self._next_pts + AUDIO_FRAME_SAMPLES) / AUDIO_RATE + SILENCE_AFTER - media_time()

    def _moment(self, frame: av.AudioFrame) -> int | None:
        """The pts at which ``frame`` is sent, or ``None``: it is late, silence was sent for it, it is dropped.

        A source that stays late has a latency that we did not expect: from then on all its sound moves by that much,
        until it comes earlier again.
        """
        now = media_time()
        self._settle((frame.pts or 0) + self._lag, now)
        pts = (frame.pts or 0) + self._lag
        if self._next_pts is None:
            return pts
        if pts > self._next_pts - AUDIO_FRAME_SAMPLES:
            self._late = 0
            return max(pts, self._next_pts)
        if self._next_pts > now * AUDIO_RATE:
            return None  # its time was moved back, and what was sent is ahead
        if self._late == 0:
            self._late_since = now
        self._late += 1
        if self._late <= QUEUE or now - self._late_since < LATE_FOR:
            return None
        self._lag += self._next_pts - pts
        self._watched_since, self._spare = now, math.inf
        return self._next_pts

    def _settle(self, pts: int, now: float) -> None:
        """Take back what is too much of ``_lag``: with it, even the slowest frame came with time to spare."""
        self._spare = min(self._spare, (pts + AUDIO_FRAME_SAMPLES) / AUDIO_RATE + SILENCE_AFTER - now)
        if now - self._watched_since >= SETTLE:
            if self._spare > SILENCE_AFTER:  # it was to be heard before it was spoken
                self._lag = max(0, self._lag - round((self._spare - SILENCE_AFTER / 2) * AUDIO_RATE))
            self._watched_since, self._spare = now, math.inf

    def _silence(self) -> av.AudioFrame:
        oldest = round((media_time() - SILENCE_AFTER) * AUDIO_RATE) - AUDIO_FRAME_SAMPLES
        if self._next_pts is None or oldest - self._next_pts > QUEUE * AUDIO_FRAME_SAMPLES:
            self._next_pts = max(0, oldest)
        return self._send(np.zeros((1, 2 * AUDIO_FRAME_SAMPLES), np.int16), self._next_pts)

    def _send(self, samples: npt.NDArray[Any], pts: int) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, pts, AUDIO_TIME_BASE
        self._next_pts = pts + AUDIO_FRAME_SAMPLES
        return frame


class AudioEncoding:
    """One codec's packets (FFmpeg's name), coded while somebody reads them."""

    def __init__(self, tasks: asyncio.TaskGroup, sound: Fanout[av.AudioFrame], codec: str) -> None:
        self._tasks = tasks
        self._sound = sound
        self._codec = codec
        self._frames: Fanout[OutgoingFrame] = Fanout(self._start, self._stop)
        self._reader: Reader[av.AudioFrame] | None = None
        self._task: asyncio.Task[None] | None = None

    def read(self) -> Reader[OutgoingFrame]:
        """A listener's reader."""
        return self._frames.read(QUEUE)

    def _start(self) -> None:
        self._reader = reader = self._sound.read(QUEUE)
        self._task = self._tasks.create_task(self._run(reader), name=f"encode {self._codec}")

    def _stop(self) -> None:
        assert self._reader is not None and self._task is not None
        self._reader.close()  # here: a task that is cancelled before it ran does nothing at all
        self._task.cancel()

    async def _run(self, reader: Reader[av.AudioFrame]) -> None:
        loop, encoder = asyncio.get_running_loop(), AudioEncoder(self._codec)
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"encode {self._codec}")
        sound = Continuous(reader)
        try:
            while True:
                frame = await sound.get()
                try:
                    coded = await loop.run_in_executor(pool, encoder.encode, frame)
                except Exception as exc:  # the encoder's, or a bug: it must not end the calls
                    log.warning("the %s encoder failed (%r); it is made anew", self._codec, exc)
                    encoder = AudioEncoder(self._codec)
                    continue
                for packet in coded:
                    self._frames.put(OutgoingFrame(tuple(packetize(self._codec, packet.data)), packet.pts, True))
        finally:
            pool.shutdown(wait=False)
