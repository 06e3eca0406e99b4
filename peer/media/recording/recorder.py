"""Recording of a call: the remote's encoded frames, from their fan-out into files, without transcoding.

The event loop passes frames through the key frame gate (``key_frame_gate.py``) into a bounded queue. A thread named
``record NAME`` writes them (``writer.py``). The event loop sends the key frame requests that either of them needs.

A disk error ends the recording, or one segment of it, and affects nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Final

from ...errors import MediaError
from ...timeouts import CleanupTimeout
from ..fanout import Fanout, Reader
from ..frames import EncodedFrame
from .file_names import FileNames
from .interleaver import START_TIMEOUT, Kind
from .key_frame_gate import KeyFrameGate
from .segmenter import MIN_SEGMENT
from .writer import Recorded, Writer

log = logging.getLogger(__name__)

_REQUEST_INTERVAL: Final = 1.0
"""Minimum time between two key frame requests while one is needed, in seconds."""

_READER_SIZE: Final = 500
"""Maximum number of frames queued while the event loop is busy: about six seconds."""

_MAX_QUEUED: Final = 1500
"""Maximum number of frames queued for a disk that hangs: about twenty seconds. Further frames are dropped."""

_MAX_QUEUED_BYTES: Final = 64 << 20
"""As ``_MAX_QUEUED``, in bytes: twenty seconds at 25 Mbit/s. A remote chooses the size of its frames."""

_WARNING_INTERVAL: Final = 60.0
"""Minimum time between two warnings about a slow disk, in seconds."""

_STALL_ALLOWANCE: Final = 1.0
"""Time by which a recording of a given length may take longer because the media stalls, in seconds."""

_OPEN_TIMEOUT: Final = 15.0
"""Maximum time for a disk to create a file, in seconds. A lost network share never answers."""

_CLOSE_TIMEOUT: Final = 20.0
"""Maximum time for a disk to finish a file, in seconds. While others were writing, fdatasync took 10 s."""


class Recorder:
    """One recording of ``encoded`` into new files (.mkv, .webm, .mp4) named by ``names``. Not reusable.

    ``kinds`` are the negotiated kinds of media; ``lost`` returns the number of frames lost by the network so far. The
    recording ends after ``seconds``, at ``stop``, or when ``encoded`` closes. With ``segment``, a new file starts
    after that many seconds. Its task runs in ``tasks``.

    All callbacks run in the event loop. ``request_key_frame`` returns whether it sent a request; if not, it is called
    again soon. ``on_recorded`` receives each finished file, ``on_failed`` each error that does not end the recording.

    Raises:
        MediaError: segments are shorter than ``MIN_SEGMENT``.
    """

    def __init__(
        self,
        tasks: asyncio.TaskGroup,
        names: FileNames,
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
            why = f"segments of {segment:g} s are too short"
            raise MediaError(str(names), why, f"the minimum is {MIN_SEGMENT:g} s")
        self._tasks = tasks
        self._name = str(names)
        self._encoded = encoded
        self._request_key_frame = request_key_frame
        self._on_failed = on_failed
        self._seconds = seconds
        self._gate = KeyFrameGate()
        self._lost = lost
        self._lost_at_start = 0
        self._writer = Writer(
            names,
            frozenset(kinds),
            seconds=seconds,
            segment=segment,
            dropped=lambda: self._gate.dropped + self._lost() - self._lost_at_start,
            on_recorded=lambda recorded: self._call_in_loop(on_recorded, recorded),
            on_failed=lambda error: self._call_in_loop(on_failed, error),
        )
        self._queue: queue.SimpleQueue[EncodedFrame | None] = queue.SimpleQueue()
        self._queued_bytes = 0  # since the start; the writer counts those that it has read
        self._reader: Reader[EncodedFrame] | None = None
        self._opened: asyncio.Future[MediaError | None] | None = None
        self._result: asyncio.Future[Recorded | MediaError] | None = None
        thread_name = f"record {Path(self._name).name}"[:15]
        self._thread = threading.Thread(target=self._run, name=thread_name, daemon=True)

    async def start(self) -> None:
        """Start recording. Without segments, create the file first.

        Raises:
            MediaError: the file cannot be created, or not within 15 s. Only a thread that hangs then remains.
        """
        self._loop = asyncio.get_running_loop()
        self._opened, self._result = self._loop.create_future(), self._loop.create_future()
        self._thread.start()
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT):
                error = await self._opened
        except TimeoutError:
            self._queue.put(
                None
            )  # if the disk answers later, the thread finds nothing to record and deletes the file
            raise MediaError(self._name, "the disk does not respond") from None
        except asyncio.CancelledError:
            self._queue.put(None)
            raise
        if error is not None:
            self._thread.join()
            raise error
        self._lost_at_start = self._lost()
        reader = self._reader = self._encoded.read(_READER_SIZE)
        self._result.add_done_callback(lambda _: reader.close())
        pump = self._tasks.create_task(self._pump(reader), name=f"record {self._name}")
        pump.add_done_callback(lambda _: self._queue.put(None))

    async def wait(self) -> Recorded:
        """Wait until the recording ends, and return the last file.

        Raises:
            MediaError: a file could not be written, or there was nothing to record. With segments, raised at the end
                if any of them was lost.
        """
        assert self._result is not None, "not started"
        result = await asyncio.shield(self._result)
        self._thread.join()  # setting the result is the last thing that it does
        if isinstance(result, MediaError):
            raise result
        return result

    async def stop(self) -> Recorded:
        """End the recording. All frames so far are in the file. May be called twice.

        Raises:
            MediaError: as for ``wait``, and if the disk does not finish the file within 20 s.
        """
        if self._reader is not None:
            self._reader.close()
        try:
            async with CleanupTimeout(_CLOSE_TIMEOUT):
                return await self.wait()
        except TimeoutError:
            raise MediaError(self._name, "the disk does not respond") from None

    async def _pump(self, reader: Reader[EncodedFrame]) -> None:
        requested_at = warned_at = float("-inf")
        overrun, deadline = 0, float("inf")
        if self._seconds is not None:
            deadline = time.monotonic() + self._seconds + START_TIMEOUT + _STALL_ALLOWANCE
        try:
            while (now := time.monotonic()) < deadline:
                if self._needs_key_frame and now - requested_at >= _REQUEST_INTERVAL and self._request_key_frame():
                    requested_at = now
                try:
                    async with asyncio.timeout(_REQUEST_INTERVAL / 4):
                        frame = await reader.get()
                except TimeoutError:
                    continue
                except StopAsyncIteration:
                    break
                self._gate.report_loss(reader.dropped - overrun)
                overrun = reader.dropped
                waiting = self._queued_bytes - self._writer.read_bytes
                if self._queue.qsize() >= _MAX_QUEUED or waiting + len(frame.data) > _MAX_QUEUED_BYTES:
                    self._gate.report_loss(1)
                    if now - warned_at >= _WARNING_INTERVAL:
                        self._on_failed(MediaError(self._name, "the disk is too slow", "frames are dropped"))
                        warned_at = now
                elif self._gate.accepts(frame):
                    self._queued_bytes += len(frame.data)
                    self._queue.put(frame)
        except Exception as exc:  # a bug, which ends this recording and no call
            self._on_failed(self._unexpected(exc))
        finally:
            reader.close()

    @property
    def _needs_key_frame(self) -> bool:
        return self._gate.needs_key_frame or self._writer.needs_key_frame

    # --- the thread ---

    def _run(self) -> None:
        try:
            self._writer.open()
        except Exception as exc:
            self._call_in_loop(_resolver(self._opened), self._unexpected(exc))
            return
        self._call_in_loop(_resolver(self._opened), None)
        result: Recorded | MediaError
        try:
            result = self._writer.record(self._queue)
        except Exception as exc:
            result = self._unexpected(exc)
        self._call_in_loop(_resolver(self._result), result)

    def _unexpected(self, error: Exception) -> MediaError:
        """Return ``error``, or for a bug or an error of a library, a ``MediaError``: only this recording ends."""
        if isinstance(error, MediaError):
            return error
        log.error("the recording %s failed", self._name, exc_info=error)
        return MediaError(self._name, f"unexpected error: {error!r}")

    def _call_in_loop(self, callback: Callable[[Any], None], value: object) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(callback, value)


def _resolver(future: asyncio.Future[Any] | None) -> Callable[[Any], None]:
    """Return a callback that sets the result of ``future``, unless that has been cancelled."""

    def resolve(value: object) -> None:
        if future is not None and not future.done():
            future.set_result(value)

    return resolve
