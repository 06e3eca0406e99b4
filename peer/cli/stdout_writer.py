"""Standard output beside the event loop: whoever does not read (a full pipe, ``| less``) stops no call.

Lines wait in a bounded queue for a thread that writes them in order. When the queue is full, what is old goes first,
and of that the statistics. The end waits for a reader that is slow, not for one that is stuck.
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

_LINES: Final = 1000
"""Lines that wait for the reader: minutes of a few calls' statistics, a few hundred kB."""

_STUCK: Final = 1.0
"""Seconds without a line taken after which, at the end, the reader counts as stuck."""

_LONGEST: Final = 10.0
"""Seconds that the end waits for a reader that is only slow."""

_log = logging.getLogger(__name__)


class Writer:
    """Writes lines by ``write``, in a thread. ``on_gone`` is called there, once, when the reader has gone.

    Any other error of ``write`` (a full disk) is logged once, and what comes after goes nowhere.
    """

    def __init__(self, write: Callable[[bytes], None], on_gone: Callable[[], None]) -> None:
        self._write = write
        self._on_gone = on_gone
        self._changed = threading.Condition()
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._writing = self._closing = False
        self._written = 0
        self._over = False  # written to no more
        self.gone = False
        self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="standard output", daemon=True)
        self._thread.start()

    def put(self, line: bytes, *, expendable: bool = False) -> None:
        """Write ``line`` soon; never waits. ``expendable`` is what is left out first."""
        with self._changed:
            if self._over:
                return
            self._queue.append((line, expendable))
            first = len(self._queue) > _LINES and self._drop()
            self._changed.notify_all()
        if first:
            _log.warning("nobody reads the output: lines are left out, statistics first")

    def _drop(self) -> bool:
        """Make room; whether it is the first time."""
        oldest = next((at for at, (_, expendable) in enumerate(self._queue) if expendable), 0)
        del self._queue[oldest]
        self.dropped += 1
        return self.dropped == 1

    def close(self) -> None:
        """Write what waits, as long as somebody takes it, and say how much nobody took."""
        until = time.monotonic() + _LONGEST
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            while self._queue or self._writing:
                if not self._progress(min(_STUCK, until - time.monotonic())):
                    break
            lost = self.dropped + len(self._queue) + self._writing
            stuck, self._over = self._writing, True
            self._queue.clear()
        if not stuck:
            self._thread.join()
        if lost and not self.gone:
            _log.warning("%d lines of output were not read and are lost", lost)

    def _progress(self, patience: float) -> bool:
        """Whether another line was taken within ``patience`` seconds."""
        before = self._written
        return self._changed.wait_for(lambda: self._written != before, patience)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                if not self._queue:
                    return
                line, _ = self._queue.popleft()
                self._writing = True
            problem: OSError | None = None
            try:
                self._write(line)
            except OSError as error:
                problem = error
            with self._changed:
                self._writing = False
                self._written += 1
                if problem is not None:
                    self._over = True
                    self._queue.clear()
                    self.gone = problem.errno == errno.EPIPE
                self._changed.notify_all()
            if problem is not None:
                self._give_up(problem)
                return

    def _give_up(self, problem: OSError) -> None:
        if self.gone:
            self._on_gone()
        else:
            _log.error("standard output: %s; going on without it", problem.strerror or problem)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``, however long that takes; without Python's buffers, whose locks outlive a stuck thread.

    Raises:
        OSError: it cannot be written; BrokenPipeError when the reader has gone.
    """
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # somebody we share it with made it non-blocking
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            poll.poll()
