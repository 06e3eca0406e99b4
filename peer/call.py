"""What a program holds of one call with one remote: wait for it, hang it up, look at it, record it.

A ``Call`` is made by ``Agent`` and ends once, with a reason. It never reconnects: a remote that calls again makes
a new one (and ends this one with ``replaced``).
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
from .errors import CallFailed, MediaError
from .events import Reason
from .media.fanout import Reader
from .media.frames import EncodedFrame
from .media.incoming.track import FirstPicture, IncomingMedia
from .media.recording.file_names import SegmentPaths, SinglePath
from .media.recording.recorder import Recorder
from .media.recording.writer import Recorded
from .media.snapshot import snapshot as take_snapshot


class State(enum.StrEnum):
    """What a list of peers shows of each (the seed's three words)."""

    AVAILABLE = "Available"
    CALLING = "Calling"
    CONNECTED = "Connected"


class Call:
    """One call. Public attributes are for reading.

    ``async with call:`` is entered when it is connected (``CallFailed`` if it will not be) and hangs up at the end.
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
        """Why it ended; ``None`` while it has not."""
        self.started_at = time.monotonic()
        self.connected_at: float | None = None
        self.media = IncomingMedia(self._first_picture)
        """What the remote sends; its fan-outs end with the call."""
        self._tasks = tasks
        self._publish = publish
        self._hang_up = hang_up
        self._changed = asyncio.Event()
        self._first: events.FirstFrame | None = None
        self._stats: events.Stats | None = None
        self._kinds: frozenset[Literal["video", "audio"]] = frozenset()

    @property
    def state(self) -> State:
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
        """Wait until media can flow.

        Raises:
            CallFailed: the call ended, or ``timeout`` seconds passed (the call goes on then).
        """
        await self._until(lambda: self.connected_at is not None, timeout)

    async def ended(self) -> Reason:
        """Wait until it is over; why."""
        while self.reason is None:
            await self._change()
        return self.reason

    async def first_frame(self, timeout: float | None = None) -> events.FirstFrame:
        """Wait for the first picture that was decoded.

        Raises:
            CallFailed: the call ended without one, or ``timeout`` seconds passed.
        """
        await self._until(lambda: self._first is not None, timeout)
        assert self._first is not None
        return self._first

    async def stats(self) -> events.Stats:
        """The figures of the last whole second; waits for the first ones.

        Raises:
            CallFailed: the call ended before there were any.
        """
        await self._until(lambda: self._stats is not None, None)
        assert self._stats is not None
        return self._stats

    async def hang_up(self, reason: Reason = "hang-up") -> None:
        """End it here and there. Does nothing when it is over."""
        if self.reason is None:
            self._hang_up(reason)
            await self.ended()

    # --- media ---

    def frames(self) -> Reader[av.VideoFrame]:
        """Decoded pictures, newest wins. Close the reader when done: decoding costs."""
        return self.media.video.frames.read()

    def sound(self) -> Reader[av.AudioFrame]:
        """Decoded sound in frames of 20 ms (s16, 48 kHz); up to a second waits."""
        return self.media.audio.frames.read(50)

    def encoded(self) -> Reader[EncodedFrame]:
        """Pictures and sound as they came, undecoded; up to a second waits."""
        return self.media.encoded.read(100)

    def request_key_frame(self) -> None:
        """Ask the remote for a picture that decoding can start at."""
        self.media.video.request_key_frame()

    async def record(
        self, path: str | Path, seconds: float | None = None, segment: float | None = None
    ) -> events.Recorded:
        """Record what comes, undecoded, into .mkv, .webm or .mp4, for ``seconds`` or until the call ends.

        With ``segment`` a new file begins each so many seconds: ``{peer}`` and ``{time}`` in ``path`` are filled in,
        and without ``{time}`` a number is put before the suffix. A segment that fails is an ``error`` event, and
        the next one is tried. Also without, a further file (``door-2.mkv``) begins when the remote changes to what
        one file cannot hold. Each file is a ``recorded`` event; the last one is returned.

        Being cancelled closes the file, and ``recorded`` is told all the same.

        Raises:
            MediaError: the file, or a segment, could not be written, or there was nothing to record.
            CallFailed: the call is over.
        """
        await self._live()
        recorder = Recorder(
            self._tasks,
            SinglePath(Path(path)) if segment is None else SegmentPaths(str(path), self.peer),
            self.media.encoded,
            kinds=self._kinds,
            request_key_frame=self.media.video.request_key_frame,
            lost=self.media.lost,
            on_recorded=lambda recorded: self._publish(self._recorded(recorded)),
            on_failed=self._tell_failed,
            seconds=seconds,
            segment=segment,
        )
        await recorder.start()
        try:
            return self._recorded(await recorder.wait())
        except asyncio.CancelledError:
            try:
                await recorder.stop()
            except MediaError as error:  # nobody waits for it any more
                self._tell_failed(error)
            raise

    async def snapshot(self, path: str | Path, timeout: float = 5.0) -> events.Snapshot:
        """Write the next picture as .png or .jpg.

        Raises:
            MediaError: no picture came within ``timeout`` seconds, or it cannot be written.
            CallFailed: the call is over.
        """
        await self._live()
        await take_snapshot(Path(path), self.media.video.frames, timeout)
        taken = events.Snapshot(peer=self.peer, path=str(path))
        self._publish(taken)
        return taken

    async def _live(self) -> None:
        """Wait until it is connected; one that was, and is over, has nothing to keep any more."""
        await self.connected()
        if self.reason is not None:
            raise CallFailed(self.peer, self.reason)

    def _recorded(self, file: Recorded) -> events.Recorded:
        return events.Recorded(peer=self.peer, path=str(file.path), seconds=file.seconds, dropped=file.dropped)

    def _tell_failed(self, error: MediaError) -> None:
        self._publish(events.Error(code="media-error", message=str(error), peer=self.peer, path=error.what))

    # --- what the agent tells ---

    def _set_connected(self, kinds: frozenset[Literal["video", "audio"]]) -> None:
        self.connected_at = time.monotonic()
        self._kinds = kinds
        setup = round((self.connected_at - self.started_at) * 1000)
        self._publish(events.Connected(peer=self.peer, setup_ms=setup))
        self._notify()

    def _set_ended(self, reason: Reason) -> None:
        self.reason = reason
        self.media.close()
        self._publish(events.Ended(peer=self.peer, reason=reason))
        self._notify()

    def _first_picture(self, picture: FirstPicture) -> None:
        self._first = events.FirstFrame(
            peer=self.peer, width=picture.width, height=picture.height, codec=picture.codec
        )
        self._publish(self._first)
        self._notify()

    def _set_stats(self, stats: events.Stats) -> None:
        self._stats = stats
        self._publish(stats)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _change(self) -> None:
        await self._changed.wait()

    async def _until(self, done: Callable[[], bool], timeout: float | None) -> None:
        try:
            async with asyncio.timeout(timeout):
                while not done():
                    if self.reason is not None:
                        raise CallFailed(self.peer, self.reason)
                    await self._change()
        except TimeoutError:
            raise CallFailed(self.peer, "timeout") from None
