"""One coding of one source, made once for all its viewers, from its first viewer on until its last.

Pictures come from a fan-out, newest first, go through one thread with one encoder, and leave as RTP payloads in
another fan-out: a viewer more costs its packets, and no encoding.

It never ends while somebody reads. A source that is silent leaves its last picture standing, then a card, and
silence for sound; an encoder that fails is made anew.

Key frames are made when they are asked for, at most two a second whoever asks. A viewer that comes between two of
them gets what was coded since the last one, so that everyone has a picture at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import av
from av.video.reformatter import VideoReformatter

from ...rtp.packetizer import packetize
from .. import picture
from ..fanout import Fanout, Reader
from ..frame_rate_limiter import FrameRateLimiter
from ..frames import VIDEO_TIME_BASE, OutgoingFrame, media_time
from .encoder import Coded, VideoEncoder
from .frame_rate import Pace
from .quality_ladder import Rung

log = logging.getLogger(__name__)

KEY_INTERVAL: Final = 0.5
"""Seconds between two key frames, however many are asked for."""

FIRST_PICTURE: Final = 0.1
"""Seconds that a new encoding waits for its source before it sends a card: a viewer wants to see something."""

OPENING: Final = 2.0
"""The same while a picture is expected of the source (a file, a decoder or a camera that has just begun): a card
would be what a snapshot keeps, and the size that a recording begins with."""

REPEAT: Final = 1.0
"""Seconds without a new picture after which the last one is coded again: it gets better, and who lost it has it."""

HOLD: Final = 5.0
"""Seconds that the last picture stands in for a silent source; then comes the card."""

KEY_PATIENCE: Final = 0.05
"""Seconds that a key frame waits for a new picture before the last one is taken for it."""

RETRY: Final = 1.0
"""Seconds after which an encoder that failed is made anew."""

QUEUE: Final = 60
"""Coded pictures that wait for a busy sender, two seconds of them; older ones are dropped."""


@dataclass(slots=True)
class EncoderCounters:
    """Since it began. ``seconds`` were spent encoding ``frames``; ``dropped`` pictures came too fast for it."""

    frames: int = 0
    seconds: float = 0.0
    dropped: int = 0


class VideoEncoding:
    """``rung(width, height)`` says how a picture of that size is to be coded; ``newest`` gives one to begin with,
    ``expected`` tells whether one is about to come, ``size`` is that of the card until a picture came."""

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        pictures: Fanout[av.VideoFrame],
        codec: str,
        rung: Callable[[int, int], Rung],
        *,
        size: tuple[int, int],
        newest: Callable[[], av.VideoFrame | None] = lambda: None,
        expected: Callable[[], bool] = lambda: False,
        hardware: bool = True,
    ) -> None:
        self.counters = EncoderCounters()
        self._dropped = 0
        self._tasks = tasks
        self._pictures = pictures
        self._codec = codec
        self._rung = rung
        self._newest = newest
        self._expected = expected
        self._hardware = hardware
        self._pace = Pace()
        self._frames: Fanout[OutgoingFrame] = Fanout(self._start, self._stop)
        self._reader: Reader[av.VideoFrame] | None = None
        self._task: asyncio.Task[None] | None = None
        self._limit: asyncio.Timeout | None = None
        self._last: av.VideoFrame | None = None
        self._last_at = 0.0
        self._size = size
        self._pts = -1
        self._key_wanted = False
        self._key_at = float("-inf")
        self._since_key: list[OutgoingFrame] | None = None

    def read(self) -> Reader[OutgoingFrame]:
        """A viewer's reader. It begins with a key frame, as soon as can be."""
        recent = self._since_key if media_time() - self._key_at < KEY_INTERVAL else None
        reader = self._frames.read(QUEUE, recent or ())
        if recent is None:
            self.request_key_frame()
        return reader

    def request_key_frame(self) -> None:
        """Make a key frame as soon as may be. Requests that come meanwhile are met by the same one."""
        if not self._key_wanted:
            self._key_wanted = True
            if self._limit is not None and not self._limit.expired():
                wait = max(KEY_PATIENCE, self._key_at + KEY_INTERVAL - media_time())
                due = asyncio.get_running_loop().time() + wait
                before = self._limit.when()
                self._limit.reschedule(due if before is None else min(due, before))

    # --- running ---

    def _start(self) -> None:
        self._key_at, self._since_key, self._dropped = float("-inf"), None, 0
        self._reader = reader = self._pictures.read(1)
        self._task = self._tasks.create_task(self._run(reader), name=f"encode {self._codec}")

    def _stop(self) -> None:
        assert self._reader is not None and self._task is not None
        self._reader.close()  # here: a task that is cancelled before it ran does nothing at all
        self._task.cancel()

    async def _run(self, reader: Reader[av.VideoFrame]) -> None:
        loop, coder = asyncio.get_running_loop(), _Coder(self._codec, self._rung, self._hardware, self._pace)
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"encode {self._codec}")
        fresh, begun = self._newest(), False
        try:
            while True:
                if fresh is None:
                    fresh = await (self._wait(reader, REPEAT, coder) if begun else self._first(reader, coder))
                shown, pts = self._show(fresh)
                key = self._key_wanted and media_time() - self._key_at >= KEY_INTERVAL
                began = media_time()
                try:
                    coded, size = await loop.run_in_executor(pool, coder.encode, shown, pts, key)
                except Exception as exc:  # the encoder's, or a bug: it must not end the calls
                    log.warning("the %s encoder failed (%r); it is made anew", self._codec, exc)
                    log.debug("the encoder's trace", exc_info=True)
                    coder = _Coder(self._codec, self._rung, self._hardware, self._pace)
                    await asyncio.sleep(RETRY)
                    continue
                finally:
                    fresh, begun = None, True
                self.counters.frames += 1
                self.counters.seconds += media_time() - began
                self.counters.dropped += reader.dropped - self._dropped
                self._dropped = reader.dropped
                for frame in coded:
                    self._put(frame, size)
        finally:
            pool.shutdown(wait=False)

    def _show(self, fresh: av.VideoFrame | None) -> tuple[av.VideoFrame, int]:
        """The picture to code, and its pts. Without a fresh one: the last one, or a card."""
        now = media_time()
        if fresh is not None:
            self._last, self._last_at, self._size = fresh, now, (fresh.width, fresh.height)
        elif self._last is not None and now - self._last_at > HOLD:
            self._last = None
        captured = fresh.pts if fresh is not None else None
        self._pts = max(self._pts + 1, round(now / VIDEO_TIME_BASE) if captured is None else captured)
        return self._last or picture.card(*self._size, "NO PICTURE"), self._pts

    async def _first(self, reader: Reader[av.VideoFrame], coder: _Coder) -> av.VideoFrame | None:
        """The picture to begin with. ``None``: none came, and none is expected, or it took too long."""
        until = media_time() + OPENING
        fresh = await self._wait(reader, FIRST_PICTURE, coder)
        while fresh is None and self._expected() and media_time() < until:
            fresh = await self._wait(reader, FIRST_PICTURE, coder)
        return fresh

    async def _wait(self, reader: Reader[av.VideoFrame], patience: float, coder: _Coder) -> av.VideoFrame | None:
        loop = asyncio.get_running_loop()
        if self._key_wanted:
            patience = min(patience, max(KEY_PATIENCE, self._key_at + KEY_INTERVAL - media_time()))
        try:
            async with asyncio.timeout_at(loop.time() + patience) as self._limit:
                while True:
                    try:
                        fresh = await reader.get()
                    except StopAsyncIteration:  # the source is gone for good
                        await asyncio.sleep(patience)
                        return None
                    if coder.takes(fresh):
                        return fresh
        except TimeoutError:
            return None
        finally:
            self._limit = None

    def _put(self, coded: Coded, size: tuple[int, int]) -> None:
        frame = OutgoingFrame(tuple(packetize(self._codec, coded.data)), coded.pts, coded.key, size)
        if frame.key:
            self._key_wanted, self._key_at, self._since_key = False, media_time(), []
        elif self._since_key is not None and media_time() - self._key_at >= KEY_INTERVAL:
            self._since_key = None
        if self._since_key is not None:
            self._since_key.append(frame)
        self._frames.put(frame)


class _Coder:
    """What the encoding's thread has: the encoder, made anew for another size or rate, and a scaler."""

    def __init__(self, codec: str, rung: Callable[[int, int], Rung], hardware: bool, pace: Pace) -> None:
        self._codec = codec
        self._choose = rung
        self._pace = pace
        self._hardware = hardware
        self._reformatter = VideoReformatter()
        self._encoder: VideoEncoder | None = None
        self._rung: Rung | None = None
        self._fps = 0.0
        self._limiter: tuple[float, FrameRateLimiter] | None = None

    def takes(self, frame: av.VideoFrame) -> bool:
        """Whether this one is coded. In the event loop."""
        rung = self._choose(frame.width, frame.height)
        if not rung.thinned or frame.time is None:
            return True
        if self._limiter is None or self._limiter[0] != rung.fps:
            self._limiter = rung.fps, FrameRateLimiter(rung.fps)
        return self._limiter[1].accepts(frame.time)

    def encode(self, frame: av.VideoFrame, pts: int, key: bool) -> tuple[list[Coded], tuple[int, int]]:
        """In the thread. ``frame`` is everybody's: what is written to is made of it."""
        rung = self._choose(frame.width, frame.height)
        size = (rung.width, rung.height)
        fps = self._pace.count(float(pts * VIDEO_TIME_BASE), rung.fps) if self._codec == "h264" else rung.fps
        if self._encoder is None or (rung, fps) != (self._rung, self._fps):
            self._encoder = VideoEncoder(self._codec, *size, fps, rung.bitrate, hardware=self._hardware)
            self._rung, self._fps = rung, fps
        if (frame.width, frame.height) != size:
            frame = self._reformatter.reformat(frame, *size, "yuv420p", threads=1)
            frame.pts, frame.time_base = pts, VIDEO_TIME_BASE
        elif frame.pts != pts:
            frame = picture.copy(frame, pts)
        return self._encoder.encode(frame, key=key), size
