"""Recording a call: the remote's packets as they came, undecoded, from the fan-out into files.

The event loop passes frames that are whole (gate.py) into a bounded queue; a thread of the recorder's own
(``record NAME``) writes them (tape.py). The loop asks for the key frames that one of the two waits for.

What goes wrong with a disk ends the recording, or with segments one of them, and touches nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from ...errors import MediaError
from ..fanout import Fanout, Reader
from ..frames import EncodedFrame
from .file_names import Names
from .interleaver import START_WAIT, Kind
from .key_frame_gate import Gate
from .segmenter import MIN_SEGMENT
from .writer import Recorded, Tape

_ASK_EVERY: Final = 1.0
"""Seconds between requests for a key frame while one is missing."""

_READER: Final = 500
"""Frames that wait while the event loop is busy: some six seconds."""

_QUEUE: Final = 1500
"""Frames between loop and disk: some twenty seconds of a disk that hangs. Further ones are dropped."""

_COMPLAIN_EVERY: Final = 60.0
"""Seconds between two complaints about a disk that does not keep up."""

_PATIENCE: Final = 1.0
"""Seconds by which a recording of given length may outlast it when the media stalls."""

_OPEN_TIMEOUT: Final = 15.0
"""Seconds for a disk to make a file; a network share that is gone never does."""

_CLOSE_TIMEOUT: Final = 20.0
"""Seconds for a disk to take the end of a file: fdatasync beside other writers took 10 here."""


class Recorder:
    """One recording of ``encoded`` into new files (.mkv, .webm, .mp4) called ``names``.

    ``kinds`` is what the call negotiated, ``lost`` counts the frames that the network has lost so far. With
    ``seconds`` it ends by itself; else by ``stop``, or when ``encoded`` closes. With ``segment`` seconds a new file
    begins each time. Its task lives in ``tasks``.

    All callbacks are made in the event loop: ``request_key_frame`` (false: it asked for none, and is to be called
    again soon), ``on_recorded`` for each file, ``on_failed`` for what went wrong without ending the recording.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        names: Names,
        encoded: Fanout[EncodedFrame],
        *,
        kinds: Collection[Kind],
        request_key_frame: Callable[[], bool],
        lost: Callable[[], int] = lambda: 0,
        on_recorded: Callable[[Recorded], None] = lambda _: None,
        on_failed: Callable[[MediaError], None] = lambda _: None,
        seconds: float | None = None,
        segment: float | None = None,
    ) -> None:
        if segment is not None and segment < MIN_SEGMENT:
            raise MediaError(
                str(names), f"segments of {segment:g} s are too short", f"{MIN_SEGMENT:g} s is the least"
            )
        self._tasks = tasks
        self._name = str(names)
        self._encoded = encoded
        self._request_key_frame = request_key_frame
        self._on_failed = on_failed
        self._seconds = seconds
        self._gate = Gate()
        self._lost = lost
        self._lost_before = 0
        self._tape = Tape(
            names,
            frozenset(kinds),
            seconds=seconds,
            segment=segment,
            dropped=lambda: self._gate.dropped + self._lost() - self._lost_before,
            on_recorded=lambda recorded: self._tell(on_recorded, recorded),
            on_failed=lambda failure: self._tell(on_failed, failure),
        )
        self._queue: queue.SimpleQueue[EncodedFrame | None] = queue.SimpleQueue()
        self._reader: Reader[EncodedFrame] | None = None
        self._opened: asyncio.Future[MediaError | None] | None = None
        self._result: asyncio.Future[Recorded | Exception] | None = None
        self._thread = threading.Thread(target=self._write, name=f"record {Path(self._name).name}"[:15], daemon=True)

    async def start(self) -> None:
        """Begin to listen; without segments, create the file first.

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
            raise MediaError(self._name, "the disk does not answer") from None
        except asyncio.CancelledError:
            self._queue.put(None)
            raise
        if error is not None:
            self._thread.join()
            raise error
        self._lost_before = self._lost()
        reader = self._reader = self._encoded.read(_READER)
        self._result.add_done_callback(lambda _: reader.close())
        pump = self._tasks.create_task(self._pump(reader), name=f"record {self._name}")
        pump.add_done_callback(lambda _: self._queue.put(None))

    async def wait(self) -> Recorded:
        """Until the recording has ended by itself: its last file.

        Raises:
            MediaError: it could not be written, or there was nothing to record; with segments, at the end, if any
                of them was lost.
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
            raise MediaError(self._name, "the disk does not answer") from None

    async def _pump(self, reader: Reader[EncodedFrame]) -> None:
        asked = complained = float("-inf")
        missed, ends = 0, float("inf")
        if self._seconds is not None:
            ends = time.monotonic() + self._seconds + START_WAIT + _PATIENCE
        try:
            while (now := time.monotonic()) < ends:
                if self._key_frame_wanted and now - asked >= _ASK_EVERY and self._request_key_frame():
                    asked = now
                try:
                    async with asyncio.timeout(_ASK_EVERY / 4):
                        frame = await reader.get()
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    break
                self._gate.lost(reader.dropped - missed)
                missed = reader.dropped
                if self._queue.qsize() >= _QUEUE:
                    self._gate.lost(1)
                    if now - complained >= _COMPLAIN_EVERY:
                        self._on_failed(MediaError(self._name, "the disk is too slow", "pictures and sound are lost"))
                        complained = now
                elif self._gate.passes(frame):
                    self._queue.put(frame)
        finally:
            reader.close()

    @property
    def _key_frame_wanted(self) -> bool:
        return self._gate.wants_key_frame or self._tape.wants_key_frame

    # --- the thread ---

    def _write(self) -> None:
        try:
            self._tape.open()
        except MediaError as exc:
            self._tell(_resolve(self._opened), exc)
            return
        self._tell(_resolve(self._opened), None)
        result: Recorded | Exception
        try:
            result = self._tape.record(self._queue)
        except Exception as exc:  # a bug of ours too is raised where somebody waits, not lost in a thread
            result = exc
        self._tell(_resolve(self._result), result)

    def _tell(self, callback: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            self._loop.call_soon_threadsafe(callback, value)


def _resolve(future: asyncio.Future[Any] | None) -> Callable[[Any], None]:
    def resolve(value: object) -> None:
        if future is not None and not future.done():
            future.set_result(value)

    return resolve
