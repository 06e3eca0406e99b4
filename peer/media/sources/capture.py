"""One thread that reads one input, and the policy around it: restart, watchdog, abandonment.

PyAV blocks, so every input is read by a named daemon thread. All decisions are made in the event loop:

    start --> attempt (a thread) --frames--> mailbox --> deliver
                 | ends with an error, or delivers nothing for too long
                 v
              report, wait (0.5 s, doubling up to 5 s), next attempt        (devices and streams)
              or finished                                                   (files)

An attempt that was given up may sit in a read for ever. It is a dead generation: whatever still comes from it changes
nothing, and no more than ``_ABANDONED`` of them are left behind.

Must never: block the event loop, or touch anything of it from a thread but by ``call_soon_threadsafe``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator
from typing import Final

import av

from peer.errors import MediaError
from peer.media.failure import explain
from peer.media.sources.handoff import Captured, Mailbox, enter
from peer.media.sources.passthrough import Facts

logger = logging.getLogger(__name__)

Read = Callable[[threading.Event], Generator[Captured, None, None]]
"""Opens an input, yields what it captures, closes it. It blocks; between frames it obeys the stop event."""

_BACKOFF: Final = (0.5, 5.0)
"""Seconds before a lost device is tried again: first, and at most. A node on a roof tries for ever."""

_OPENING: Final = 15.0
"""Seconds until the first frame after which opening counts as stuck."""

_ABANDONED: Final = 3
"""Threads stuck in a read that a capture leaves behind before it stops trying."""

_JOIN: Final = 2.0
"""Seconds to wait for a thread that was told to stop."""

_LEAVING_POLL: Final = 0.02
"""Seconds between two looks whether the thread before has let go of the device."""


class _Attempt:
    """One opening of the input and the thread that reads it."""

    def __init__(self, name: str, read: Read, deliver: Callable[[_Attempt, Captured], None],
                 ended: Callable[[_Attempt, MediaError | None], None]) -> None:  # fmt: skip
        self._name = name
        self._read = read
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.mailbox = Mailbox(self._loop, lambda frame: deliver(self, frame))
        self.stop = threading.Event()
        self.done = asyncio.Event()
        self.progress = time.monotonic()
        self.delivered = False
        self.believed = False
        self._left = 0.0
        self.thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        error: MediaError | None = None
        try:
            with contextlib.closing(self._read(self.stop)) as frames:
                for frame in frames:
                    self.progress = time.monotonic()
                    self.delivered = self.delivered or not isinstance(frame, Facts)
                    if not self.mailbox.post(frame) or self.stop.is_set():
                        break
        except (MediaError, OSError, ValueError, av.error.FFmpegError) as problem:
            error = explain(self._name, problem)
        except Exception as bug:  # a node on a roof goes on with its other input, and tries this one again
            logger.exception("%s: a bug in its reader", self._name)
            error = MediaError(self._name, f"internal error: {bug!r}")
        enter(self._loop, self._finish, error)

    def _finish(self, error: MediaError | None) -> None:
        self.done.set()
        self._ended(self, error)

    def leave(self) -> None:
        """Tell the thread to stop."""
        self.stop.set()
        self._left = time.monotonic()

    def leaves(self) -> bool:
        """Whether it was told to stop so recently that it is probably about to."""
        return not self.done.is_set() and time.monotonic() - self._left < _JOIN

    async def join(self) -> bool:
        """Wait a little for the thread that was told to stop; False if it is stuck."""
        try:
            async with asyncio.timeout(_JOIN):
                await self.done.wait()
        except TimeoutError:
            logger.warning("%s: its thread does not come back from a read; abandoned", self._name)
            return False
        self.thread.join()  # its last act was to set ``done``
        return True


class Capture:
    """An input that is read while it is wanted. All methods belong to the event loop.

    Args:
        name: what the user calls the input.
        read: opens and reads it, in a thread.
        deliver: gets every frame, in the loop.
        report: gets the error when the input is lost (once, not with every new try), and ``None`` when it is back.
        reopen: whether it is opened again when it ends or fails; else the end is the end.
        stall: seconds without a frame after which it counts as lost; ``None`` for what may be silent.
        interrupt: wakes a thread that is stuck in a read of this input, as far as that is possible; may block.
    """

    def __init__(
        self,
        name: str,
        read: Read,
        deliver: Callable[[Captured], None],
        report: Callable[[MediaError | None], None],
        *,
        reopen: bool,
        stall: float | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._read = read
        self._deliver = deliver
        self._report = report
        self._reopen = reopen
        self._stall = stall
        self._interrupt = interrupt
        self._attempt: _Attempt | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._leaving: set[_Attempt] = set()
        self._lost = False
        self._delay = _BACKOFF[0]
        self._dropped = 0
        self.finished = False
        """The input came to its end and is not opened again before ``start()``."""

    @property
    def running(self) -> bool:
        """Whether it is being read, or will be tried again."""
        return self._attempt is not None or self._timer is not None

    @property
    def healthy(self) -> bool:
        """Whether it is being read or about to be, and did not fail since it delivered."""
        return self.running and not self._lost

    @property
    def dropped(self) -> int:
        """Frames that a busy event loop took too late."""
        return self._dropped + (self._attempt.mailbox.dropped if self._attempt is not None else 0)

    def start(self) -> None:
        """Begin to read; nothing happens if it is being read."""
        if not self.running:
            self.finished = False
            self._delay = _BACKOFF[0]
            self._begin()

    def stop(self) -> None:
        """Tell the thread to stop; ``close()`` waits for it."""
        self._cancel_timer()
        self._lost = False
        if self._attempt is not None:
            self._give_up(self._attempt, patience=_JOIN / 2)

    async def close(self) -> None:
        """Stop, and wait a little for the threads; one that is stuck is abandoned."""
        self.stop()
        for attempt in tuple(self._leaving):
            if not await attempt.join():
                self._leaving.discard(attempt)

    def _begin(self) -> None:
        self._timer = None
        if any(attempt.leaves() for attempt in self._leaving):  # a device that is still open would be busy
            self._timer = asyncio.get_running_loop().call_later(_LEAVING_POLL, self._begin)
            return
        if len(self._leaving) >= _ABANDONED:
            self._again()
            return
        self._attempt = _Attempt(self.name, self._read, self._arrived, self._ended)
        self._watch()

    def _arrived(self, attempt: _Attempt, frame: Captured) -> None:
        if attempt is not self._attempt:
            return
        if isinstance(frame, Facts):  # it was opened: that proves nothing yet
            self._deliver(frame)
            return
        if self._lost and not attempt.believed:  # v4l2loopback shows its last picture to whoever opens it
            attempt.believed = True
            return
        if self._lost:
            self._lost = False
            logger.debug("%s: delivers again", self.name)
            self._report(None)
        self._delay = _BACKOFF[0]
        self._deliver(frame)

    def _ended(self, attempt: _Attempt, error: MediaError | None) -> None:
        self._leaving.discard(attempt)
        if attempt is not self._attempt:
            return
        self._cancel_timer()
        self._dropped += attempt.mailbox.dropped
        self._attempt = None
        if error is None and not self._reopen:
            self.finished = True
            return
        self._failed(error or MediaError(self.name, "it ended"))

    def _failed(self, error: MediaError) -> None:
        if not self._lost:
            self._lost = True
            logger.debug("%s", error)  # whoever asked for it says it aloud
            self._report(error)
        if self._reopen:
            self._again()
        else:
            self.finished = True

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._delay, self._begin)
        self._delay = min(self._delay * 2, _BACKOFF[1])

    def _watch(self) -> None:
        """The watchdog beside the thread: V4L2 has no time-out, a camera that stops delivering blocks its reader."""
        attempt = self._attempt
        if attempt is None or self._stall is None:
            return
        patience = self._stall if attempt.delivered else max(self._stall, _OPENING)
        left = attempt.progress + patience - time.monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self._watch)
            return
        self._timer = None
        self._give_up(attempt, patience=0)
        self._failed(MediaError(self.name, f"delivers nothing for {patience:.0f} s", "it is opened again"))

    def _give_up(self, attempt: _Attempt, patience: float) -> None:
        self._dropped += attempt.mailbox.dropped
        self._attempt = None
        attempt.leave()
        if not attempt.done.is_set():
            self._leaving.add(attempt)
            asyncio.get_running_loop().call_later(patience, self._wake, attempt)

    def _wake(self, attempt: _Attempt) -> None:
        if self._interrupt is not None and not attempt.done.is_set():
            threading.Thread(target=self._interrupt, name=f"interrupt {self.name}", daemon=True).start()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
