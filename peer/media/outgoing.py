"""What an RTCRtpSender reads: tracks fed from a fan-out that never end and never raise while they live.

aiortc stops a sender for good when its track ends, and says "connected" all the same. So a track whose source is
silent repeats its last picture, then shows a card, and sends silence for sound; pictures and sound go on by
themselves when the source does.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, Generic, TypeVar

import av
import numpy as np
import numpy.typing as npt
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

from peer.media import picture
from peer.media.fanout import Fanout, Reader
from peer.media.frames import AUDIO_FRAME_SAMPLES, AUDIO_RATE, AUDIO_TIME_BASE, VIDEO_TIME_BASE, media_time

FIRST_PICTURE: Final = 0.1
"""Seconds that a new track waits for its source before it sends a card: a viewer wants something to see at once."""

REPEAT: Final = 1.0
"""Seconds without a new picture after which the last one is sent again: a viewer who lost it gets it back."""

HOLD: Final = 5.0
"""Seconds that the last picture stands in for a silent source; then comes the card."""

SILENCE_AFTER: Final = 0.1
"""Seconds of sound that may be late before silence fills the gap: captured sound comes in pieces."""

AUDIO_QUEUE: Final = 10
"""Sound frames that wait for a busy sender, 200 ms; older ones are dropped."""

T = TypeVar("T")


class _Outgoing(MediaStreamTrack, Generic[T]):
    """A track that reads its source from ``open()`` or the first ``recv()`` on, until ``stop()``.

    Whoever makes a track stops it: aiortc stops those of senders that ran, and forgets the others.
    """

    def __init__(self, source: Fanout[T], queue: int) -> None:
        super().__init__()
        self._source = source
        self._queue = queue
        self._reader: Reader[T] | None = None

    @property
    def dropped(self) -> int:
        """Pictures, or pieces of sound, that came faster than the sender took them."""
        return self._reader.dropped if self._reader is not None else 0

    def open(self) -> None:
        """Start the source before anything is asked for, so that a camera warms up while it rings."""
        if self._reader is None and self.readyState == "live":
            self._reader = self._source.read(self._queue)

    def stop(self) -> None:
        """End the track and let go of the source."""
        super().stop()
        if self._reader is not None:
            self._reader.close()

    async def _next(self, patience: float) -> T | None:
        """What the source has next, or ``None`` after ``patience`` seconds, also when the source is gone for good.

        Raises:
            MediaStreamError: the track was stopped.
        """
        self.open()
        item = None
        try:
            async with asyncio.timeout(patience):
                if self._reader is not None:
                    try:
                        item = await self._reader.get()
                    except StopAsyncIteration:
                        if self.readyState == "live":
                            await asyncio.sleep(patience)
        except TimeoutError:
            pass
        if self.readyState != "live":
            raise MediaStreamError
        return item


class OutgoingVideo(_Outgoing[av.VideoFrame]):
    """The newest pictures of a fan-out, for one sender. ``size`` is that of the card until a picture came."""

    kind = "video"

    def __init__(self, pictures: Fanout[av.VideoFrame], size: tuple[int, int] = (640, 360)) -> None:
        super().__init__(pictures, 1)
        self._size = size
        self._last: av.VideoFrame | None = None
        self._last_at = 0.0
        self._pts = -1

    async def recv(self) -> av.VideoFrame:
        """The next picture, strictly later than the one before, at least one each ``REPEAT`` seconds.

        Raises:
            MediaStreamError: the track was stopped.
        """
        fresh = await self._next(REPEAT if self._pts >= 0 else FIRST_PICTURE)
        now = media_time()
        if fresh is not None:
            self._last, self._last_at, self._size = fresh, now, (fresh.width, fresh.height)
        elif self._last is not None and now - self._last_at > HOLD:
            self._last = None
        shown = self._last or picture.card(*self._size, "NO PICTURE")
        captured = fresh.pts if fresh is not None else None
        self._pts = max(self._pts + 1, round(now / VIDEO_TIME_BASE) if captured is None else captured)
        return picture.copy(shown, self._pts)


class OutgoingAudio(_Outgoing[av.AudioFrame]):
    """The sound of a fan-out for one sender, in real time, silence where there is none."""

    kind = "audio"

    def __init__(self, sound: Fanout[av.AudioFrame]) -> None:
        super().__init__(sound, AUDIO_QUEUE)
        self._next_pts: int | None = None
        self._lag = 0
        self._late = 0

    async def recv(self) -> av.AudioFrame:
        """The next 20 ms of sound.

        Raises:
            MediaStreamError: the track was stopped.
        """
        while True:
            frame = await self._next(self._patience())
            if frame is None:
                return self._silence()
            pts = self._moment(frame)
            if pts is not None:
                return self._send(frame.to_ndarray(), pts)

    def _patience(self) -> float:
        """Seconds until silence must stand in for the next frame."""
        if self._next_pts is None:
            return SILENCE_AFTER
        return (self._next_pts + AUDIO_FRAME_SAMPLES) / AUDIO_RATE + SILENCE_AFTER - media_time()

    def _moment(self, frame: av.AudioFrame) -> int | None:
        """The pts at which ``frame`` is sent, or ``None``: it is late, silence was sent for it, it is dropped.

        A source that stays late has a latency that we did not expect: from then on all its sound moves by that much.
        """
        pts = (frame.pts or 0) + self._lag
        if self._next_pts is None:
            return pts
        if pts > self._next_pts - AUDIO_FRAME_SAMPLES:
            self._late = 0
            return max(pts, self._next_pts)
        self._late += 1
        if self._late <= AUDIO_QUEUE:
            return None
        self._lag += self._next_pts - pts
        return self._next_pts

    def _silence(self) -> av.AudioFrame:
        oldest = round((media_time() - SILENCE_AFTER) * AUDIO_RATE) - AUDIO_FRAME_SAMPLES
        if self._next_pts is None or oldest - self._next_pts > AUDIO_QUEUE * AUDIO_FRAME_SAMPLES:
            self._next_pts = max(0, oldest)
        return self._send(np.zeros((1, 2 * AUDIO_FRAME_SAMPLES), np.int16), self._next_pts)

    def _send(self, samples: npt.NDArray[Any], pts: int) -> av.AudioFrame:
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = AUDIO_RATE, pts, AUDIO_TIME_BASE
        self._next_pts = pts + AUDIO_FRAME_SAMPLES
        return frame
