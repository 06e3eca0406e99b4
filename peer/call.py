"""A call with one remote, as a program sees it: wait for it, hang up, read its media, record it.

``Agent`` creates calls. A call ends once, with a reason. It never reconnects: if the remote calls again, a new call
begins and this one ends with ``replaced``.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Literal

import av

from . import events
from .errors import CallFailed, Cause, MediaError
from .events import Reason
from .media.fanout import Reader
from .media.frames import EncodedFrame
from .media.incoming.track import FirstFrame, IncomingMedia
from .media.recording.file_names import SegmentPaths, SinglePath
from .media.recording.recorder import Recorder
from .media.recording.writer import Recorded
from .media.snapshot import snapshot as take_snapshot


class State(enum.StrEnum):
    """State of a peer in the list of peers. The values are the texts of the legacy page."""

    AVAILABLE = "Available"
    CALLING = "Calling"
    CONNECTED = "Connected"


class Call:
    """A call. Public attributes are read-only.

    ``async with call:`` waits until the call is connected, and hangs up at the end. It raises ``CallFailed`` if the
    call ends before it is connected.
    """

    def __init__(
        self,
        peer: str,
        *,
        incoming: bool,
        tasks: asyncio.TaskGroup,
        publish: Callable[[events.Event], None],
        hang_up: Callable[[Reason], None],
    ) -> None:
        self.peer = peer
        self.incoming = incoming
        self.reason: Reason | None = None
        self._detail: str | None = None
        """Why the call ended; ``None`` before."""
        self.started_at = time.monotonic()
        self.connected_at: float | None = None
        self.media = IncomingMedia(self._set_first_frame)
        """Media from the remote. Its fan-outs end with the call."""
        self._tasks = tasks
        self._publish = publish
        self._hang_up = hang_up
        self._changed = asyncio.Event()
        self._first_frame: events.FirstFrame | None = None
        self._stats: events.Stats | None = None
        self._kinds: frozenset[Literal["video", "audio"]] = frozenset()
        self._lost_sources: dict[str, float] = {}
        """When the remote's source of each kind was lost, by kind."""

    @property
    def state(self) -> State:
        """``AVAILABLE`` once the call has ended."""
        if self.reason is not None:
            return State.AVAILABLE
        return State.CALLING if self.connected_at is None else State.CONNECTED

    # --- waiting ---

    async def __aenter__(self) -> Call:
        await self.connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.hang_up()

    async def connected(self, timeout: float | None = None) -> None:
        """Wait until the call is connected.

        Raises:
            CallFailed: the call ended before, or ``timeout`` seconds passed, in which case the call continues.
        """
        await self._until(lambda: self.connected_at is not None, timeout)

    async def ended(self) -> Reason:
        """Wait until the call has ended, and return the reason."""
        while self.reason is None:
            await self._change()
        return self.reason

    async def first_frame(self, timeout: float | None = None) -> events.FirstFrame:
        """Wait until the first video frame is decoded.

        Raises:
            CallFailed: the call ended before, or ``timeout`` seconds passed.
        """
        await self._until(lambda: self._first_frame is not None, timeout)
        assert self._first_frame is not None
        return self._first_frame

    async def stats(self) -> events.Stats:
        """Return the statistics of the last second. Waits for the first ones.

        Raises:
            CallFailed: the call ended before.
        """
        await self._until(lambda: self._stats is not None, None)
        assert self._stats is not None
        return self._stats

    async def hang_up(self, reason: Reason = "hang-up") -> None:
        """End the call on both sides. Does nothing if it has ended."""
        if self.reason is None:
            self._hang_up(reason)
            await self.ended()

    # --- media ---

    def frames(self) -> Reader[av.VideoFrame]:
        """Reader of decoded video frames.

        It holds one frame, the newest. While it is open, every frame is decoded.
        """
        return self.media.video.frames.read()

    def sound(self) -> Reader[av.AudioFrame]:
        """Reader of decoded audio in frames of 20 ms (s16, 48 kHz). It holds up to one second."""
        return self.media.audio.frames.read(50)

    def encoded(self) -> Reader[EncodedFrame]:
        """Reader of video and audio frames before decoding. It holds 100 frames, about one second."""
        return self.media.encoded.read(100)

    def request_key_frame(self) -> None:
        """Request a key frame from the remote (PLI, RFC 4585)."""
        self.media.video.request_key_frame()

    async def record(
        self, path: str | Path, seconds: float | None = None, segment: float | None = None
    ) -> events.Recorded:
        """Record the received media without transcoding, for ``seconds`` or until the call ends.

        A further file (``door-2.mkv``) begins when the remote changes to a format that the first one cannot hold.
        Each closed file is published as a ``recorded`` event, and the last one is returned. On cancellation the file
        is closed and published too.

        Args:
            path: a .mkv, .webm or .mp4 file.
            seconds: maximum length of the recording.
            segment: length of a segment in seconds. Each segment is a file of its own. ``{peer}`` and ``{time}`` in
                ``path`` are replaced; without ``{time}`` a number is inserted before the suffix. A segment that fails
                is published as an ``error`` event, and the recording continues with the next segment.

        Raises:
            MediaError: the file or a segment could not be written, or there was nothing to record.
            CallFailed: the call has ended.
        """
        await self._require_active()
        recorder = Recorder(
            self._tasks,
            SinglePath(Path(path)) if segment is None else SegmentPaths(str(path), self.peer),
            self.media.encoded,
            kinds=self._kinds,
            request_key_frame=self.media.video.request_key_frame,
            lost=self.media.lost_frames,
            on_recorded=lambda recorded: self._publish(self._recorded(recorded)),
            on_failed=self._publish_error,
            seconds=seconds,
            segment=segment,
        )
        await recorder.start()
        try:
            return self._recorded(await recorder.wait())
        except asyncio.CancelledError:
            try:
                await recorder.stop()
            except MediaError as error:  # this task was cancelled, so the error cannot be raised
                self._publish_error(error)
            raise

    async def snapshot(self, path: str | Path, timeout: float = 5.0) -> events.Snapshot:
        """Save the next video frame as .png or .jpg.

        Raises:
            MediaError: no frame arrived within ``timeout`` seconds, or the file could not be written.
            CallFailed: the call has ended.
        """
        await self._require_active()
        await take_snapshot(Path(path), self.media.video.frames, timeout)
        taken = events.Snapshot(peer=self.peer, path=str(path))
        self._publish(taken)
        return taken

    async def _require_active(self) -> None:
        """Wait until the call is connected. Raises ``CallFailed`` if it has ended."""
        await self.connected()
        if self.reason is not None:
            raise CallFailed(self.peer, self.reason, self._detail)

    def _recorded(self, file: Recorded) -> events.Recorded:
        return events.Recorded(peer=self.peer, path=str(file.path), seconds=file.seconds, dropped=file.dropped)

    def _publish_error(self, error: MediaError) -> None:
        self._publish(events.Error(code="media-error", message=str(error), peer=self.peer, path=error.what))

    # --- called by call control ---

    def _set_connected(self, kinds: frozenset[Literal["video", "audio"]]) -> None:
        self.connected_at = time.monotonic()
        self._kinds = kinds
        setup = round((self.connected_at - self.started_at) * 1000)
        self._publish(events.Connected(peer=self.peer, setup_ms=setup))
        self._notify()

    def _set_kinds(self, kinds: frozenset[Literal["video", "audio"]]) -> None:
        self._kinds = kinds

    def _set_ended(self, reason: Reason, detail: str = "") -> None:
        self.reason = reason
        self._detail = detail or None
        self.media.close()
        self._publish(events.Ended(peer=self.peer, reason=reason, detail=self._detail))
        self._notify()

    def _set_first_frame(self, frame: FirstFrame) -> None:
        self._first_frame = events.FirstFrame(
            peer=self.peer, width=frame.width, height=frame.height, codec=frame.codec
        )
        self._publish(self._first_frame)
        self._notify()

    def _set_stats(self, stats: events.Stats) -> None:
        self._stats = stats
        self._publish(stats)
        self._notify()

    def _set_source(self, kind: str, cause: Cause | None) -> None:
        """Note that the remote's source of ``kind`` was lost by ``cause``, or is back (``None``)."""
        now = time.monotonic()
        if cause is not None and kind not in self._lost_sources:
            self._lost_sources[kind] = now
            message = f"{self.peer} has no live {kind}: {cause}"
            self._publish(events.SourceLost(peer=self.peer, kinds=(kind,), cause=cause, message=message))
        elif cause is None and kind in self._lost_sources:
            seconds = round(now - self._lost_sources.pop(kind), 1)
            self._publish(events.SourceBack(peer=self.peer, kinds=(kind,), seconds=seconds))

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    async def _until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    if self.reason is not None:
                        raise CallFailed(self.peer, self.reason, self._detail)
                    await self._change()
        except TimeoutError:
            raise CallFailed(self.peer, "timeout") from None
