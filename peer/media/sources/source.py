"""One input shared by all calls: opened once, read while it has a reader.

A ``Source`` reads its input from its first reader on, and for ``LINGER`` seconds after its last one. A call that is
repeated, or moves to a new connection, therefore does not restart the camera.

``open()`` checks at program start whether an input can work. It checks a file without playing it. For any other
input it waits for the first frame, and keeps the input open for the first call. ``start()`` does the same for a node
that must not wait for a missing device: it returns soon, and the input is tried again until it works.

A file plays in real time from its first reader on, each time from its beginning; later readers join midway. After its
end, its last video frame is repeated until the last reader has closed.

An input that is lost is opened again until it works, also without readers, so that the next viewer finds it working.
An idle camera is not opened to find out whether it is still there: ``devices_changed()`` looks for its device node.

An input that delivers H.264 (file, stream, camera) also offers it unchanged, in ``encoded``; ``passthrough`` checks
whether a viewer can decode it. It is decoded only while ``video`` or ``audio`` has a reader, or during ``open()``.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import av

from peer.errors import MediaError
from peer.media.failure import NoAudio
from peer.media.fanout import Fanout
from peer.media.frames import EncodedFrame, media_time
from peer.media.sources.capture import Capture, Read
from peer.media.sources.decoding import DecodeFlags
from peer.media.sources.handoff import Captured
from peer.media.sources.passthrough import PassthroughCheck, StreamInfo
from peer.media.threads import in_thread

LINGER: Final = 2.0
"""Time for which an input stays open without a reader, in seconds."""

EXPECTED_WITHIN: Final = 2.0
"""Time after a video frame within which the next one is expected, in seconds."""

_FIRST_FRAME_TIMEOUT: Final = 15.0
"""Maximum time for an input to deliver its first frame in ``open()``, in seconds."""


@dataclass(frozen=True, slots=True)
class SourceLost:
    """The input named ``source`` was lost because of ``error``; it is opened again automatically."""

    source: str
    error: MediaError


@dataclass(frozen=True, slots=True)
class SourceBack:
    """The input named ``source`` delivers again, ``seconds`` after it was lost."""

    source: str
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a ``Source`` reads, and how. See ``Capture`` for ``read``, ``reopen``, ``stall`` and ``interrupt``."""

    name: str
    read: Read
    video: bool
    audio: bool
    check: Callable[[], StreamInfo | None] | None = None
    """Raises ``MediaError`` if the input cannot work; may block. Without it, ``open()`` waits for the first frame."""
    flags: DecodeFlags = field(default_factory=DecodeFlags)
    """What ``read`` has to decode. The ``Source`` sets them."""
    passthrough: PassthroughCheck | None = None
    """Observes the stream of an input that may deliver H.264."""
    reopen: bool = True
    stall: float | None = None
    interrupt: Callable[[], None] | None = None
    present: Callable[[], bool] | None = None
    """Whether its device exists, found out without opening it. Called in the event loop. ``None``: has no device."""


class Source:
    """One input and its fan-outs. ``video``, ``audio`` and ``encoded`` are ``None`` if the input lacks them."""

    def __init__(self, input: Input, *, linger: float = LINGER) -> None:
        self.name = input.name
        self.failures: Fanout[SourceLost | SourceBack] = Fanout()
        self.passthrough = input.passthrough
        callbacks = (self._on_first_reader, self._on_last_reader)
        self.video: Fanout[av.VideoFrame] | None = (
            Fanout(self._on_first_video_reader, self._on_last_reader) if input.video else None
        )
        self.audio: Fanout[av.AudioFrame] | None = Fanout(*callbacks) if input.audio else None
        self.encoded: Fanout[EncodedFrame] | None = Fanout(*callbacks) if input.passthrough is not None else None
        self._input = input
        self._linger = linger
        self._stop_timer: asyncio.TimerHandle | None = None
        self._first_frame: asyncio.Future[MediaError | None] | None = None
        self._needs_key = True
        """Whether no key frame has come since the input was last opened."""
        self._last_video_time: float | None = None
        """``media_time()`` of the last video frame; ``None`` until one comes after video got a reader."""
        self.lost: MediaError | None = None
        """Why the input does not work; ``None`` while it does, or before it was opened."""
        self._lost_at = 0.0
        self._starting = False
        """Whether ``start()`` was called and the input has not delivered since."""
        self._closed = False
        self._capture = Capture(
            input.name,
            input.read,
            self._deliver,
            self._report,
            reopen=input.reopen,
            counts=self._proves_health,
            stall=input.stall,
            interrupt=input.interrupt,
        )

    @property
    def kinds(self) -> tuple[str, ...]:
        """``video`` and ``audio``, as far as the input has them."""
        return tuple(kind for kind, has in (("video", self._input.video), ("audio", self._input.audio)) if has)

    @property
    def has_device(self) -> bool:
        """Whether the input is a device of this machine."""
        return self._input.present is not None

    @property
    def running(self) -> bool:
        """Whether the input is being read, or opened again after a delay."""
        return self._capture.running

    @property
    def dropped(self) -> int:
        """Frames dropped because the event loop was busy."""
        return self._capture.dropped

    @property
    def decoded(self) -> int:
        """Video packets decoded so far."""
        return self._input.flags.decoded_packets

    @property
    def frame_expected(self) -> bool:
        """Whether a video frame is expected soon: video has a reader and a healthy input, and is not silent."""
        if self.video is None or not self.video.readers or self.lost is not None or not self._capture.healthy:
            return False
        return self._last_video_time is None or media_time() - self._last_video_time < EXPECTED_WITHIN

    async def open(self) -> None:
        """Verify that the input works.

        Raises:
            MediaError: the input is missing, busy or unreadable, or delivers nothing.
        """
        if self._input.check is not None:
            info = await in_thread(self.name, self._input.check)
            if info is not None:
                self._restart_stream(info)
            return
        self._first_frame = asyncio.get_running_loop().create_future()
        self._update_flags()
        self._capture.start()
        try:
            error = await self._wait_for(self._first_frame)
            if error is not None:
                raise error
        except BaseException:
            await self.close()
            raise
        finally:
            self._first_frame = None
        self._on_last_reader()

    async def start(self, timeout: float) -> None:
        """Open the input until it works. Return once it works or has failed, at the latest after ``timeout`` seconds.

        A file is only checked, as in ``open()``. If any other input does not work, ``lost`` is set.

        Raises:
            MediaError: the file cannot be played, or an input that works lacks the audio (``NoAudio``).
        """
        if self._input.check is not None:
            await self.open()
            return
        self._starting = True
        self._first_frame = asyncio.get_running_loop().create_future()
        self._update_flags()
        self._capture.start()
        try:
            async with asyncio.timeout(timeout):
                error = await self._first_frame
            if isinstance(error, NoAudio):
                await self.close()
                raise error
        except TimeoutError:
            self._on_loss(MediaError(self.name, "it has delivered nothing yet", "waiting for it", cause="silent"))
        finally:
            self._first_frame = None
            self._input.flags.audio_optional = True  # whether it has audio was not known when this peer joined
            self._update_flags()
        if not self._starting:
            self._on_last_reader()

    def devices_changed(self) -> None:
        """React to a change in /dev: open a lost input now; an idle one whose device is gone becomes lost."""
        if self._closed or self._input.present is None:
            return
        if self.lost is not None:
            self._capture.retry_now()
        elif not self._capture.running and not self._input.present():
            self._on_loss(MediaError(self.name, "the device is gone", "check whether it was unplugged", cause="gone"))
            self._capture.start()

    async def _wait_for(self, first_frame: asyncio.Future[MediaError | None]) -> MediaError | None:
        try:
            async with asyncio.timeout(_FIRST_FRAME_TIMEOUT):
                return await first_frame
        except TimeoutError:
            why = f"it has delivered nothing for {_FIRST_FRAME_TIMEOUT:g} s"
            return MediaError(self.name, why, "check whether another program can show it", cause="silent")

    async def close(self) -> None:
        """End all readers, stop the thread and wait briefly for it. May be called twice."""
        self._closed = True
        for fanout in (self.video, self.audio, self.encoded, self.failures):
            if fanout is not None:
                fanout.close()
        self._cancel_stop()
        await self._capture.close()

    def _on_first_video_reader(self) -> None:
        self._last_video_time = None
        self._on_first_reader()

    def _on_first_reader(self) -> None:
        self._cancel_stop()
        self._update_flags()
        if not self._closed:
            self._capture.start()

    def _on_last_reader(self) -> None:
        """Schedule closing the input, unless another fan-out of it has a reader."""
        self._cancel_stop()
        self._update_flags()
        fanouts = (self.video, self.audio, self.encoded)
        if self._starting or (self.lost is not None and self._capture.running):
            return
        if not self._closed and not any(fanout.readers for fanout in fanouts if fanout is not None):
            linger = 0.0 if self._input.flags.ended else self._linger
            self._stop_timer = asyncio.get_running_loop().call_later(linger, self._capture.stop)

    def _cancel_stop(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer.cancel()
            self._stop_timer = None

    def _update_flags(self) -> None:
        opening = self._first_frame is not None or self._starting or self.lost is not None
        self._input.flags.video = opening or (self.video is not None and self.video.readers > 0)
        self._input.flags.audio = opening or (self.audio is not None and self.audio.readers > 0)

    def _proves_health(self, frame: Captured) -> bool:
        """Whether ``frame`` shows that the input works. Where video is decoded, its sound alone does not."""
        is_video = isinstance(frame, av.VideoFrame | EncodedFrame)
        return is_video or not self._input.video or not self._input.flags.video

    def _deliver(self, frame: Captured) -> None:
        if self._starting or self.lost is not None:
            self._check_recovery(frame)
        match frame:
            case StreamInfo():
                self._restart_stream(frame)
                return
            case EncodedFrame():
                self._deliver_encoded(frame)
                return
            case av.VideoFrame() if self.video is not None:
                self._last_video_time = media_time()
                self.video.put(frame)
            case av.AudioFrame() if self.audio is not None:
                self.audio.put(frame)
        if self._proves_health(frame):
            self._settle(None)

    def _restart_stream(self, info: StreamInfo) -> None:
        self._needs_key = True
        if self.passthrough is not None:
            self.passthrough.restart(info)

    def _deliver_encoded(self, frame: EncodedFrame) -> None:
        if self.passthrough is not None and self.encoded is not None:
            self.passthrough.observe(frame)
            self._needs_key = self._needs_key and not frame.key
            if not self._needs_key:  # before the first key frame nothing can be decoded
                self.encoded.put(frame)

    def _check_recovery(self, frame: Captured) -> None:
        if not isinstance(frame, StreamInfo) and self._proves_health(frame):
            self._on_recovery()

    def _report(self, error: MediaError | None) -> None:
        self._settle(error)
        if error is None:
            self._on_recovery()
        else:
            self._on_loss(error)

    def _on_loss(self, error: MediaError) -> None:
        if self.lost is None:
            self.lost, self._lost_at = error, time.monotonic()
            self.failures.put(SourceLost(self.name, error))
        self._cancel_stop()
        self._update_flags()

    def _on_recovery(self) -> None:
        lost, self.lost, self._starting = self.lost, None, False
        if lost is not None:
            self.failures.put(SourceBack(self.name, time.monotonic() - self._lost_at))
        self._on_last_reader()

    def _settle(self, error: MediaError | None) -> None:
        """End the wait of ``open()``, if there is one."""
        if self._first_frame is not None and not self._first_frame.done():
            self._first_frame.set_result(error)
