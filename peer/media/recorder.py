"""Recording a call: the remote's packets as they came, undecoded, from the fan-out into one file.

The event loop moves frames into a bounded queue; a thread of the recorder's own (``record NAME``) writes them. A
recording begins with a key frame, once each kind that the call negotiated has been heard from, or two seconds after
the first of them: sound that is late is declared all the same, a picture that is late is left out.

What goes wrong with a disk ends the recording and nothing else: it is raised by ``wait`` and ``stop``.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import MediaError
from .fanout import Fanout, Reader
from .frames import EncodedFrame
from .recorder_file import RecordingFile, VideoHead, read_head
from .recorder_timeline import Timeline

Kind = Literal["video", "audio"]

START_WAIT: Final = 2.0
"""Seconds from the first usable frame in which the other kind may still come to be waited for."""

_ASK_EVERY: Final = 1.0
"""Seconds between requests for a key frame while one is missing."""

_QUEUE: Final = 500
"""Frames between loop and disk: some six seconds of a disk that hangs. Further ones are dropped."""

_WAITING: Final = 1000
"""Frames kept while a recording waits to begin."""

_PATIENCE: Final = 1.0
"""Seconds by which a recording of given length may outlast it when the media stalls."""

_OPEN_TIMEOUT: Final = 15.0
"""Seconds for a disk to make a file; a network share that is gone never does."""

_CLOSE_TIMEOUT: Final = 20.0
"""Seconds for a disk to take the end of a file: fdatasync beside other writers took 10 here."""

_SAME: Final = 0.001
"""Seconds: Matroska's own precision."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recording that was closed. ``seconds`` is its length, ``dropped`` counts frames a slow disk cost."""

    path: Path
    seconds: float
    dropped: int


class Recorder:
    """One recording of ``encoded`` into a new file ``path`` (.mkv, .webm, .mp4; see recorder_file.py).

    ``kinds`` is what the call negotiated. ``request_key_frame`` is called in the event loop. With ``seconds`` it
    ends by itself; else by ``stop``, or when ``encoded`` closes. Its task lives in ``tasks``.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        path: Path,
        encoded: Fanout[EncodedFrame],
        *,
        kinds: Collection[Kind],
        request_key_frame: Callable[[], None],
        seconds: float | None = None,
    ) -> None:
        self.path = path
        self._tasks = tasks
        self._encoded = encoded
        self._request_key_frame = request_key_frame
        self._seconds = seconds
        self._tape = _Tape(frozenset(kinds), seconds)
        self._queue: queue.SimpleQueue[EncodedFrame | None] = queue.SimpleQueue()
        self._reader: Reader[EncodedFrame] | None = None
        self._opened: asyncio.Future[MediaError | None] | None = None
        self._result: asyncio.Future[Recorded | Exception] | None = None
        self._thread = threading.Thread(target=self._write, name=f"record {path.name}"[:15], daemon=True)
        self._dropped = 0

    async def start(self) -> None:
        """Create the file and begin to listen.

        Raises:
            MediaError: the file cannot be made, or not in 15 s. Nothing runs then, but a thread that hangs.
        """
        self._loop = asyncio.get_running_loop()
        self._opened, self._result = self._loop.create_future(), self._loop.create_future()
        self._thread.start()
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT):
                error = await self._opened
        except TimeoutError:
            self._queue.put(None)  # should the thread wake, it finds nothing to record, and removes its file
            raise MediaError(str(self.path), "the disk does not answer") from None
        except asyncio.CancelledError:
            self._queue.put(None)
            raise
        if error is not None:
            self._thread.join()
            raise error
        reader = self._reader = self._encoded.read(_QUEUE)
        self._result.add_done_callback(lambda _: reader.close())
        pump = self._tasks.create_task(self._pump(reader), name=f"record {self.path.name}")
        pump.add_done_callback(lambda _: self._queue.put(None))

    async def wait(self) -> Recorded:
        """Until the recording has ended by itself.

        Raises:
            MediaError: it could not be written, or there was nothing to record.
        """
        assert self._result is not None, "not started"
        result = await asyncio.shield(self._result)
        self._thread.join()  # it has set the result as its last act
        if isinstance(result, Exception):
            raise result
        return result

    async def stop(self) -> Recorded:
        """End it now; what came before is in the file. May be called twice.

        Raises:
            MediaError: as ``wait``; also when the disk does not take the end of the file in 20 s.
        """
        if self._reader is not None:
            self._reader.close()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                return await self.wait()
        except TimeoutError:
            raise MediaError(str(self.path), "the disk does not answer") from None

    async def _pump(self, reader: Reader[EncodedFrame]) -> None:
        lost, asked, ends = 0, 0.0, None
        whole = True  # no picture is missing since the last key frame
        if self._seconds is not None:
            ends = time.monotonic() + self._seconds + START_WAIT + _PATIENCE
        try:
            while ends is None or time.monotonic() < ends:
                if not (self._tape.rolling and whole) and time.monotonic() - asked >= _ASK_EVERY:
                    self._request_key_frame()
                    asked = time.monotonic()
                try:
                    async with asyncio.timeout(_ASK_EVERY / 4):
                        frame = await reader.get()
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    break
                if reader.dropped > lost or self._queue.qsize() >= _QUEUE:
                    self._dropped += reader.dropped - lost
                    lost, whole = reader.dropped, False
                whole = whole or (frame.kind == "video" and frame.key)
                if self._queue.qsize() >= _QUEUE or (frame.kind == "video" and not whole):
                    self._dropped += 1
                else:
                    self._queue.put(frame)
        finally:
            reader.close()

    # --- the thread ---

    def _write(self) -> None:
        try:
            file = RecordingFile(self.path)
        except MediaError as exc:
            self._tell(self._opened, exc)
            return
        self._tell(self._opened, None)
        try:
            self._tape.record(self._queue, file)
            result: Recorded | Exception = Recorded(self.path, round(file.seconds, 3), self._dropped)
        except Exception as exc:  # a bug of ours too is raised where somebody waits, not lost in a thread
            result = exc
        self._tell(self._result, result)

    def _tell(self, future: asyncio.Future[Any] | None, value: object) -> None:
        def tell() -> None:
            if future is not None and not future.done():
                future.set_result(value)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            self._loop.call_soon_threadsafe(tell)


class _Tape:
    """What the thread does: waits for a beginning, then writes each frame at its place."""

    def __init__(self, kinds: frozenset[Kind], seconds: float | None) -> None:
        self._kinds = kinds
        self._seconds = seconds
        self._timeline = Timeline()
        self._waiting: list[EncodedFrame] = []
        self._since = 0.0
        self._head: VideoHead | None = None
        self._origin = 0.0
        self.rolling = "video" not in kinds
        """Whether the picture has begun, so that no key frame is needed. Read by the loop."""

    def record(self, frames: queue.SimpleQueue[EncodedFrame | None], file: RecordingFile) -> None:
        """Until ``None`` comes, or the length is reached."""
        begun = False
        try:
            while True:
                try:
                    frame = frames.get(timeout=None if begun else START_WAIT / 10)
                except queue.Empty:
                    begun = self._begin_if_ready(file)
                    continue
                if frame is None:
                    break
                self._timeline.observe(frame)
                if begun:
                    if not self._write(frame, file):
                        return
                elif self._keep(frame):
                    begun = self._begin_if_ready(file)
            if not begun and not self._begin(file):
                raise MediaError(str(file.path), "nothing was recorded: no media came", None)
        finally:
            file.close()

    def _keep(self, frame: EncodedFrame) -> bool:
        """Whether ``frame`` can be part of a beginning; then it waits for it."""
        if frame.kind == "video" and self._head is None:
            self._head = read_head(frame)
            if self._head is None:
                return False
            self.rolling = True
        if not self._waiting:
            self._since = frame.arrival
        if len(self._waiting) < _WAITING:
            self._waiting.append(frame)
        return True

    def _begin_if_ready(self, file: RecordingFile) -> bool:
        have = {frame.kind for frame in self._waiting}
        late = bool(self._waiting) and time.monotonic() - self._since > START_WAIT
        return (have >= self._kinds or late) and self._begin(file)

    def _begin(self, file: RecordingFile) -> bool:
        """The header, and all that waited. Zero is the first picture, or the first sound when there is none."""
        if not self._waiting:
            return False
        sound = next((frame.codec for frame in self._waiting if frame.kind == "audio"), None)
        if sound is None and "audio" in self._kinds:
            sound = "opus"  # every WebRTC endpoint has it (RFC 7874)
        file.begin(self._head, sound)
        self.rolling = True
        lead: Kind = "audio" if self._head is None else "video"
        first = next(frame for frame in self._waiting if frame.kind == lead)
        self._origin = self._timeline.place(first)
        for frame in self._waiting:
            self._write(frame, file)
        self._waiting.clear()
        return True

    def _write(self, frame: EncodedFrame, file: RecordingFile) -> bool:
        """Whether there is room for more."""
        at = self._timeline.place(frame) - self._origin
        if self._seconds is not None and at >= self._seconds - _SAME:
            return False
        if at >= 0:
            file.write(frame, at)
        return True
