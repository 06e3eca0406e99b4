"""One decoder in a thread of its own: encoded frames in from the event loop, decoded frames back into it.

It adds no delay: each frame comes out as soon as it is decoded. Its queue is bounded. A decoder that is too slow
rejects frames, and its user continues at the next key frame.

Must never: be called from outside the event loop, or block it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import av

from ...log_limit import LimitedLogger
from ..frames import MAX_PIXELS, EncodedFrame

log = LimitedLogger(logging.getLogger(__name__))

MAX_QUEUE_TIME: Final = 0.3
"""Maximum age of the oldest queued frame, in seconds. Beyond it, the decoder is too slow for the stream. The number
of frames does not show that, because a repaired loss delivers thirty at once."""

MAX_QUEUED: Final = 100
"""Maximum number of queued frames, whatever their age."""

MAX_QUEUED_BYTES: Final = 16 << 20
"""Maximum size of the queued frames, in bytes. A remote chooses the size of its frames, up to 8 MiB."""

_LIBRARIES: Final = {"opus": "libopus", "h264": "h264", "vp8": "vp8"}
"""FFmpeg's decoder for each codec that has several. Its own VP8 decoder takes 2.3 ms for 720p, libvpx 2.7 ms."""

_AUDIO_FORMATS: Final = {"pcm_mulaw": ("mono", 8_000), "pcm_alaw": ("mono", 8_000), "g722": ("mono", 16_000)}
"""Layout and sample rate of the codecs other than Opus."""

FrameCallback = Callable[[Any, float], None]
"""Called with a decoded frame and the decoding time in seconds."""


class Decoder:
    """Decoder of one stream, from the first ``decode`` until ``stop``. ``kind`` is used in the thread's name.

    ``on_frame`` receives each decoded frame; ``on_error`` is called for a frame that cannot be decoded. Both run in
    the event loop, and never after ``stop``.
    """

    def __init__(self, kind: str, on_frame: FrameCallback, on_error: Callable[[], None]) -> None:
        self._kind = kind
        self._on_frame = on_frame
        self._on_error = on_error
        self._thread: _DecoderThread | None = None

    def decode(self, frame: EncodedFrame) -> bool:
        """Queue ``frame``. Return false if the queue is full; the frame is then dropped.

        A change of codec starts a new decoder.
        """
        if self._thread is None:
            loop = asyncio.get_running_loop()
            self._thread = _DecoderThread(self._kind, loop, self._on_frame, self._on_error)
        return self._thread.put(frame)

    def stop(self) -> None:
        """Drop queued frames and end the thread, which finishes its current frame. May be called twice."""
        if self._thread is not None:
            self._thread.stop()
            self._thread = None


class _DecoderThread:
    """The thread and its queue. Not reusable."""

    def __init__(
        self, kind: str, loop: asyncio.AbstractEventLoop, on_frame: FrameCallback, on_error: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._on_frame, self._on_error = on_frame, on_error
        self._queue: deque[tuple[EncodedFrame, float]] = deque()  # with the time at which each was queued
        self._queued_bytes = 0
        self._changed = threading.Condition()
        self._stopped = False
        threading.Thread(target=self._run, name=f"{kind}-decoder").start()

    def put(self, frame: EncodedFrame) -> bool:
        with self._changed:
            now = time.monotonic()
            is_full = len(self._queue) >= MAX_QUEUED or self._queued_bytes + len(frame.data) > MAX_QUEUED_BYTES
            if self._queue and (is_full or now - self._queue[0][1] > MAX_QUEUE_TIME):
                return False
            self._queue.append((frame, now))
            self._queued_bytes += len(frame.data)
            self._changed.notify()
        return True

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._queue.clear()
            self._changed.notify()

    def _next(self) -> EncodedFrame | None:
        with self._changed:
            while not self._queue and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return None
            frame, _ = self._queue.popleft()
            self._queued_bytes -= len(frame.data)
            return frame

    def _run(self) -> None:
        codec, context = "", None
        try:
            while (frame := self._next()) is not None:
                try:
                    if context is None or frame.codec != codec:
                        codec, context = frame.codec, open_decoder(frame.codec)
                    started = time.perf_counter()
                    decoded = context.decode(_packet(frame))
                    seconds = time.perf_counter() - started
                except (av.FFmpegError, ValueError) as exc:
                    log.info("= a frame in %s cannot be decoded: %s", frame.codec, exc)
                    self._loop.call_soon_threadsafe(self._report_error)
                    continue
                for decoded_frame in decoded:
                    self._loop.call_soon_threadsafe(self._deliver, decoded_frame, seconds)
        except RuntimeError:
            pass  # the event loop is closed, so the frames have no receiver

    def _deliver(self, frame: Any, seconds: float) -> None:
        if not self._stopped:
            self._on_frame(frame, seconds)

    def _report_error(self) -> None:
        if not self._stopped:
            self._on_error()


def open_decoder(codec: str) -> Any:
    """Return a decoder for ``codec`` (FFmpeg's name) that returns each frame without delay.

    Raises:
        ValueError: FFmpeg has no decoder for it.
    """
    context: Any = av.CodecContext.create(_LIBRARIES.get(codec, codec), "r")
    if context.type == "video":
        context.thread_count = 1  # each frame thread adds a frame of delay, and streams have one slice per frame
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.flags |= av.codec.context.Flags.low_delay  # otherwise H.264 may hold frames back to reorder them
    else:
        context.format = "s16"
        context.layout, context.sample_rate = _AUDIO_FORMATS.get(codec, ("stereo", 48_000))
    return context


def _packet(frame: EncodedFrame) -> Any:
    packet = av.Packet(frame.data)
    packet.pts, packet.time_base = frame.timestamp, Fraction(1, frame.clock_rate)
    return packet
