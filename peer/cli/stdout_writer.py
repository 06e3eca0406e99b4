"""Writer thread for standard output: a blocked reader (a full pipe, ``| less``) does not block the event loop.

Lines wait in a bounded queue. When it is full, the oldest statistics are dropped first, then the oldest line. On
close, the writer waits for a slow reader, but not for a stuck one.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

_MAX_LINES: Final = 1000
"""Maximum length of the queue, in lines. It holds several minutes of a few calls' statistics, a few hundred kB."""

_STUCK_AFTER: Final = 1.0
"""On close, seconds without a line written after which the reader counts as stuck."""

_MAX_CLOSE: Final = 10.0
"""Maximum duration of ``close``, in seconds, for a reader that is slow but not stuck."""

_log = logging.getLogger(__name__)


class StdoutWriter:
    """A thread that calls ``write`` with one line at a time.

    After ``BrokenPipeError``, ``reader_closed`` is true, and ``on_reader_closed`` is called once, in the thread. Any
    other error (a full disk) is logged once. After either, all further lines are discarded.
    """

    def __init__(self, write: Callable[[bytes], None], on_reader_closed: Callable[[], None]) -> None:
        self._write = write
        self._on_reader_closed = on_reader_closed
        self._changed = threading.Condition()
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._writing = self._closing = False
        self._written = 0
        self._stopped = False  # nothing is written any more
        self.reader_closed = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="standard output", daemon=True)
        self._thread.start()

    def put(self, line: bytes, *, droppable: bool = False) -> None:
        """Queue ``line`` without waiting. If the queue is full, ``droppable`` lines are dropped first."""
        with self._changed:
            if self._stopped:
                return
            self._queue.append((line, droppable))
            first_drop = len(self._queue) > _MAX_LINES and self._drop()
            self._changed.notify_all()
        if first_drop:
            _log.warning("the reader of standard output is too slow; dropping lines, statistics first")

    def _drop(self) -> bool:
        """Drop one line, and return whether it is the first one dropped."""
        oldest = next((at for at, (_, droppable) in enumerate(self._queue) if droppable), 0)
        del self._queue[oldest]
        self.dropped += 1
        return self.dropped == 1

    def close(self) -> None:
        """Write the queued lines while the reader accepts them, and log how many lines were lost."""
        deadline = time.monotonic() + _MAX_CLOSE
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._queue or self._writing:
                if not self._wait_for_progress(min(_STUCK_AFTER, deadline - time.monotonic())):
                    break
            lost = self.dropped + len(self._queue) + self._writing
            stuck, self._stopped = self._writing, True
            self._queue.clear()
        if not stuck:
            self._thread.join()
        if lost and not self.reader_closed:
            _log.warning("%d lines of output were lost, because the reader was too slow", lost)

    def _wait_for_progress(self, timeout: float) -> bool:
        """Whether another line was written within ``timeout`` seconds."""
        before = self._written
        return self._changed.wait_for(lambda: self._written != before, timeout)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                line, _ = self._queue.popleft()
                self._writing = True
            failure: OSError | None = None
            try:
                self._write(line)
            except OSError as error:
                failure = error
            with self._changed:
                self._writing = False
                self._written += 1
                if failure is not None:
                    self._stopped = True
                    self._queue.clear()
                    self.reader_closed = failure.errno == errno.EPIPE
                self._changed.notify_all()
            if failure is not None:
                self._report(failure)
                return

    def _report(self, failure: OSError) -> None:
        if self.reader_closed:
            self._on_reader_closed()
        else:
            log_write_error(failure)


def log_write_error(error: OSError) -> None:
    """Log that standard output cannot be written, and that the program continues without it."""
    _log.error("cannot write to standard output: %s; continuing without it", error.strerror or error)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, blocking as long as necessary.

    Bypasses Python's buffered writer: a thread that is stuck in it holds its lock, which would block the exit.

    Raises:
        OSError: the write failed; BrokenPipeError if the reader has closed the pipe.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # another process that shares the file made it non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
