"""One encoding of one source, shared by all its viewers. It runs while it has viewers.

Frames come from a fan-out whose queue holds one, so the encoder always gets the newest frame. They pass through one
encoder in one thread, and leave as RTP payloads in another fan-out. An additional viewer costs only its packets.

An encoding does not end while it has readers. While its source delivers nothing, it repeats the last frame, and then
shows the card. An encoder that fails is replaced.

Key frames are made on request, at most two per second for all viewers together. A viewer that comes between two of
them gets the frames encoded since the last one, so that each viewer sees video at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import av

from ...rtp.packetizer import MAX_PAYLOAD, packetize
from .. import picture
from ..fanout import Fanout, Reader
from ..frames import VIDEO_TIME_BASE, OutgoingFrame, media_time
from .encoder import EncodedPacket
from .frame_rate import FrameRateEstimator
from .quality_ladder import Rung
from .scaling_encoder import ScalingEncoder

log = logging.getLogger(__name__)

MIN_KEY_FRAME_INTERVAL: Final = 0.5
"""Minimum time between two key frames, in seconds, however many are requested."""

FIRST_FRAME_TIMEOUT: Final = 0.1
"""Time after which a new encoding shows the card if its source delivers nothing, in seconds. It is short, because
the viewer has no video until then."""

EXPECTED_FRAME_TIMEOUT: Final = 2.0
"""As ``FIRST_FRAME_TIMEOUT``, while the source is expected to deliver a frame: a file, decoder or camera has just
started. A card would end up in a snapshot, and set the frame size with which a recording starts."""

REPEAT_INTERVAL: Final = 1.0
"""Time without a frame after which the last one is encoded again, in seconds. That improves its quality, and repairs
it for a viewer that has lost it."""

CARD_AFTER: Final = 5.0
"""Time without a frame after which the card replaces the last one, in seconds."""

KEY_FRAME_PATIENCE: Final = 0.05
"""Maximum time for which a requested key frame waits for a new frame, in seconds. Then the last one is used."""

RESTART_DELAY: Final = 1.0
"""Time after which an encoder that failed is replaced, in seconds."""

QUEUE_SIZE: Final = 60
"""Maximum number of encoded frames that wait for a busy sender: two seconds. The oldest are dropped."""


@dataclass(slots=True)
class EncoderCounters:
    """Counters since the encoding was created."""

    frames: int = 0
    seconds: float = 0.0
    """Total encoding time of ``frames``."""
    dropped: int = 0
    """Frames of the source that were dropped because the encoder was too slow."""


class VideoEncoding:
    """The encoding of ``frames`` in ``codec``, for viewers that negotiated ``packetization_mode`` (of H.264: 0 or 1).

    ``rung_for_size`` returns the rung for a source's width and height. ``newest`` returns a frame to start with, or
    ``None``. ``expected`` returns whether the source is about to deliver a frame. ``size`` is the size of the card
    until the first frame, in pixels.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        frames: Fanout[av.VideoFrame],
        codec: str,
        rung_for_size: Callable[[int, int], Rung],
        *,
        size: tuple[int, int],
        newest: Callable[[], av.VideoFrame | None] = lambda: None,
        expected: Callable[[], bool] = lambda: False,
        hardware: bool = True,
        packetization_mode: int = 1,
    ) -> None:
        self.counters = EncoderCounters()
        self._reader_dropped = 0
        self._tasks = tasks
        self._frames = frames
        self._codec = codec
        self._rung_for_size = rung_for_size
        self._newest = newest
        self._expected = expected
        self._hardware = hardware
        self._packetization_mode = packetization_mode
        self._frame_rate = FrameRateEstimator()
        self._encoded: Fanout[OutgoingFrame] = Fanout(self._start, self._stop)
        self._reader: Reader[av.VideoFrame] | None = None
        self._task: asyncio.Task[None] | None = None
        self._timeout: asyncio.Timeout | None = None
        """The time-out of the current wait for a frame."""
        self._last: av.VideoFrame | None = None
        self._last_at = 0.0
        self._size = size
        self._pts = -1
        self._key_requested = False
        self._key_at = float("-inf")
        self._since_key: list[OutgoingFrame] | None = None
        """Frames since the last key frame; ``None`` once it is older than ``MIN_KEY_FRAME_INTERVAL``."""

    def read(self) -> Reader[OutgoingFrame]:
        """Return a reader for one viewer. It starts with a key frame, as soon as possible."""
        recent = self._since_key if media_time() - self._key_at < MIN_KEY_FRAME_INTERVAL else None
        reader = self._encoded.read(QUEUE_SIZE, recent or ())
        if recent is None:
            self.request_key_frame()
        return reader

    def request_key_frame(self) -> None:
        """Make a key frame as soon as possible. It answers all requests made until then."""
        if self._key_requested:
            return
        self._key_requested = True
        if self._timeout is not None and not self._timeout.expired():
            due = asyncio.get_running_loop().time() + self._time_to_key_frame()
            current = self._timeout.when()
            self._timeout.reschedule(due if current is None else min(due, current))

    def _time_to_key_frame(self) -> float:
        """Return the maximum time to wait for a frame when a key frame is requested, in seconds."""
        return max(KEY_FRAME_PATIENCE, self._key_at + MIN_KEY_FRAME_INTERVAL - media_time())

    # --- the task ---

    def _start(self) -> None:
        self._key_at, self._since_key, self._reader_dropped = float("-inf"), None, 0
        self._reader = reader = self._frames.read(1)
        self._task = self._tasks.create_task(self._run(reader), name=f"encode {self._codec}")

    def _stop(self) -> None:
        assert self._reader is not None and self._task is not None
        self._reader.close()  # not in the task, which does nothing if it is cancelled before its first step
        self._task.cancel()

    def _new_encoder(self) -> ScalingEncoder:
        return ScalingEncoder(
            self._codec,
            self._rung_for_size,
            hardware=self._hardware,
            frame_rate=self._frame_rate,
            max_slice_size=MAX_PAYLOAD if self._packetization_mode == 0 else None,
        )

    async def _run(self, reader: Reader[av.VideoFrame]) -> None:
        loop, encoder = asyncio.get_running_loop(), self._new_encoder()
        pool = ThreadPoolExecutor(1, thread_name_prefix=f"encode {self._codec}")
        frame, started = self._newest(), False
        try:
            while True:
                if frame is None:
                    if started:
                        frame = await self._wait(reader, REPEAT_INTERVAL, encoder)
                    else:
                        frame = await self._wait_for_first(reader, encoder)
                image, pts = self._next_image(frame)
                key = self._key_requested and media_time() - self._key_at >= MIN_KEY_FRAME_INTERVAL
                encoding_since = media_time()
                try:
                    packets, size = await loop.run_in_executor(pool, encoder.encode, image, pts, key)
                except Exception as exc:  # of the encoder, or a bug: calls must go on
                    log.warning("the %s encoder failed and is restarted: %r", self._codec, exc)
                    log.debug("traceback of the encoder's failure", exc_info=True)
                    encoder = self._new_encoder()
                    await asyncio.sleep(RESTART_DELAY)
                    continue
                finally:
                    frame, started = None, True
                self.counters.frames += 1
                self.counters.seconds += media_time() - encoding_since
                self.counters.dropped += reader.dropped - self._reader_dropped
                self._reader_dropped = reader.dropped
                for packet in packets:
                    self._put(packet, size)
        finally:
            pool.shutdown(wait=False)

    def _next_image(self, frame: av.VideoFrame | None) -> tuple[av.VideoFrame, int]:
        """Return what to encode, and its pts: ``frame`` if there is one, otherwise the last frame or the card."""
        now = media_time()
        if frame is not None:
            self._last, self._last_at, self._size = frame, now, (frame.width, frame.height)
        elif self._last is not None and now - self._last_at > CARD_AFTER:
            self._last = None
        captured = frame.pts if frame is not None else None
        self._pts = max(self._pts + 1, round(now / VIDEO_TIME_BASE) if captured is None else captured)
        return self._last or picture.card(*self._size, "NO PICTURE"), self._pts

    async def _wait_for_first(self, reader: Reader[av.VideoFrame], encoder: ScalingEncoder) -> av.VideoFrame | None:
        """Return the first frame, or ``None`` if none came and none is expected, or if it took too long."""
        deadline = media_time() + EXPECTED_FRAME_TIMEOUT
        frame = await self._wait(reader, FIRST_FRAME_TIMEOUT, encoder)
        while frame is None and self._expected() and media_time() < deadline:
            frame = await self._wait(reader, FIRST_FRAME_TIMEOUT, encoder)
        return frame

    async def _wait(
        self, reader: Reader[av.VideoFrame], timeout: float, encoder: ScalingEncoder
    ) -> av.VideoFrame | None:
        """Return the next frame, or ``None`` after ``timeout`` seconds, or earlier if a key frame is requested."""
        loop = asyncio.get_running_loop()
        if self._key_requested:
            timeout = min(timeout, self._time_to_key_frame())
        try:
            async with asyncio.timeout_at(loop.time() + timeout) as self._timeout:
                while True:
                    try:
                        frame = await reader.get()
                    except StopAsyncIteration:  # the source is closed for good
                        await asyncio.sleep(timeout)
                        return None
                    if encoder.accepts(frame):
                        return frame
        except TimeoutError:
            return None
        finally:
            self._timeout = None

    def _put(self, packet: EncodedPacket, size: tuple[int, int]) -> None:
        payloads = tuple(packetize(self._codec, packet.data, self._packetization_mode))
        frame = OutgoingFrame(payloads, packet.pts, packet.key, size, self._packetization_mode)
        if frame.key:
            self._key_requested, self._key_at, self._since_key = False, media_time(), []
        elif self._since_key is not None and media_time() - self._key_at >= MIN_KEY_FRAME_INTERVAL:
            self._since_key = None
        if self._since_key is not None:
            self._since_key.append(frame)
        self._encoded.put(frame)
