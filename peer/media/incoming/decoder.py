"""One decoder in a thread of its own: coded frames in from the event loop, decoded ones back into it.

Nothing in it looks ahead: a frame comes out as soon as it is decoded. What waits is bounded, and a decoder that is
too slow says so instead of piling up: its user goes on at the next key frame.

Must never: be called from anywhere but the event loop, or hold a call up.
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

from ..frames import MAX_PIXELS, EncodedFrame

log = logging.getLogger(__name__)

MAX_WAIT: Final = 0.3
"""Seconds that a frame may have waited when another one comes: then the decoder is too slow for the stream. A
repaired loss that brings thirty pictures at once is no such case."""

BACKLOG: Final = 100
"""Frames that may wait, whatever the time."""

_LIBRARIES: Final = {"opus": "libopus", "h264": "h264", "vp8": "vp8"}
"""FFmpeg's decoder for each codec where there are several. Its own of VP8 takes 2.3 ms for 720p, libvpx 2.7."""

Decoded = Callable[[Any, float], None]
"""Takes a frame, and the seconds that decoding took."""


class Decoder:
    """Decodes from the first ``decode`` to ``stop``. ``kind`` names the thread.

    ``on_frame`` gets what was decoded; ``on_error`` is told that a frame could not be. Both run in the event loop,
    and not any more after ``stop``.
    """

    def __init__(self, kind: str, on_frame: Decoded, on_error: Callable[[], None]) -> None:
        self._kind = kind
        self._on_frame = on_frame
        self._on_error = on_error
        self._run: _Run | None = None

    def decode(self, frame: EncodedFrame) -> bool:
        """Put ``frame`` in line; false, and it is dropped, when too much waits. A new codec starts a new decoder."""
        if self._run is None:
            self._run = _Run(self._kind, asyncio.get_running_loop(), self._on_frame, self._on_error)
        return self._run.put(frame)

    def stop(self) -> None:
        """End the thread, which takes as long as the frame it is at; what waits is dropped. May be called twice."""
        if self._run is not None:
            self._run.stop()
            self._run = None


class _Run:
    """One life of the thread."""

    def __init__(
        self, kind: str, loop: asyncio.AbstractEventLoop, on_frame: Decoded, on_error: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._on_frame, self._on_error = on_frame, on_error
        self._waiting: deque[tuple[EncodedFrame, float]] = deque()  # and when they came
        self._changed = threading.Condition()
        self._stopped = False
        threading.Thread(target=self._work, name=f"{kind}-decoder").start()

    def put(self, frame: EncodedFrame) -> bool:
        with self._changed:
            now = time.monotonic()
            if self._waiting and (len(self._waiting) >= BACKLOG or now - self._waiting[0][1] > MAX_WAIT):
                return False
            self._waiting.append((frame, now))
            self._changed.notify()
        return True

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify()

    def _next(self) -> EncodedFrame | None:
        with self._changed:
            while not self._waiting and not self._stopped:
                self._changed.wait()
            return None if self._stopped else self._waiting.popleft()[0]

    def _work(self) -> None:
        codec, context = "", None
        try:
            while (frame := self._next()) is not None:
                try:
                    if context is None or frame.codec != codec:
                        codec, context = frame.codec, open_decoder(frame.codec)
                    started = time.perf_counter()
                    decoded = context.decode(_packet(frame))
                    took = time.perf_counter() - started
                except (av.FFmpegError, ValueError) as exc:
                    log.info("= a frame of %s that cannot be decoded: %s", frame.codec, exc)
                    self._loop.call_soon_threadsafe(self._tell_error)
                    continue
                for one in decoded:
                    self._loop.call_soon_threadsafe(self._tell_frame, one, took)
        except RuntimeError:
            pass  # the loop is closed; so is whoever listened

    def _tell_frame(self, frame: Any, took: float) -> None:
        if not self._stopped:
            self._on_frame(frame, took)

    def _tell_error(self) -> None:
        if not self._stopped:
            self._on_error()


def open_decoder(codec: str) -> Any:
    """A decoder for FFmpeg's ``codec``, set to hand each frame out at once.

    Raises:
        ValueError: FFmpeg has none.
    """
    context: Any = av.CodecContext.create(_LIBRARIES.get(codec, codec), "r")
    if context.type == "video":
        context.thread_count = 1  # frame threads cost a frame of latency each; slices there is one of
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.flags |= av.codec.context.Flags.low_delay  # else H.264 may hold frames back to reorder them
    else:
        context.format = "s16"
        context.layout, context.sample_rate = _SOUND.get(codec, ("stereo", 48_000))
    return context


_SOUND: Final = {"pcm_mulaw": ("mono", 8_000), "pcm_alaw": ("mono", 8_000), "g722": ("mono", 16_000)}


def _packet(frame: EncodedFrame) -> Any:
    packet = av.Packet(frame.data)
    packet.pts, packet.time_base = frame.timestamp, Fraction(1, frame.clock_rate)
    return packet
