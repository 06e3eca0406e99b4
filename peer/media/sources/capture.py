"""The thread that reads one input, and the policy around it: restart, watchdog, abandonment.

PyAV blocks, so a named daemon thread reads each input. All decisions are made in the event loop:

    start --> attempt (a thread) --frames--> handoff --> deliver
                 | ends with an error, or delivers nothing for too long
                 v
              report, wait (0.5 s, then 1 s), next attempt           (devices and streams)
              or finished                                                   (files)

An abandoned attempt may block in a read forever. Whatever it still delivers is ignored, and at most
``_MAX_ABANDONED`` such threads exist at a time.

Must never: block the event loop, or touch its objects from a thread except by ``call_soon_threadsafe``.
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
from peer.media.failure import media_error
from peer.media.sources.handoff import Captured, Handoff, call_in_loop
from peer.media.sources.passthrough import StreamInfo
from peer.timeouts import CleanupTimeout

logger = logging.getLogger(__name__)

Read = Callable[[threading.Event], Generator[Captured, None, None]]
"""Opens an input, yields what it captures, closes it. It blocks, and checks the stop event between frames."""

_BACKOFF: Final = (0.5, 1.0)
"""First and maximum delay before a lost input is reopened, in seconds. Retries never end: nodes run unattended, and
show a camera within 2 s of its return (docs/node.md)."""

_BACKOFF_UNAUTHORIZED: Final = 60.0
"""Delay after a camera rejected name and password, in seconds. Cameras lock an account after some 5 attempts."""

_OPEN_TIMEOUT: Final = 15.0
"""Time-out for the first frame after opening, in seconds, unless ``stall`` is longer."""

_MAX_ABANDONED: Final = 3
"""Maximum threads of one capture that are stuck in a read. Beyond it no new attempt starts until one returns."""

_STOP_TIMEOUT: Final = 2.0
"""Maximum time for a thread to end after its stop event is set, in seconds."""

_STOP_POLL: Final = 0.02
"""Interval at which a pending start checks whether the previous thread has released the device, in seconds."""


class _Attempt:
    """One opening of the input, with the thread that reads it."""

    def __init__(
        self,
        name: str,
        read: Read,
        counts: Callable[[Captured], bool],
        deliver: Callable[[_Attempt, Captured], None],
        ended: Callable[[_Attempt, MediaError | None], None],
    ) -> None:
        self._name = name
        self._read = read
        self._counts = counts
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self.handoff = Handoff(self._loop, lambda frame: deliver(self, frame))
        self.stop = threading.Event()
        self.done = asyncio.Event()
        self.last_frame = time.monotonic()
        self.delivered = False
        self.skipped_first = False
        """Whether the first frame after a loss was ignored: it may be an old one."""
        self._stop_requested = 0.0
        self.thread = threading.Thread(target=self._run, name=f"capture {name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        error: MediaError | None = None
        try:
            with contextlib.closing(self._read(self.stop)) as frames:
                for frame in frames:
                    if isinstance(frame, StreamInfo) or self._counts(frame):
                        self.last_frame = time.monotonic()
                        self.delivered = self.delivered or not isinstance(frame, StreamInfo)
                    if not self.handoff.post(frame) or self.stop.is_set():
                        break
        except (MediaError, OSError, ValueError, av.error.FFmpegError) as problem:
            error = media_error(self._name, problem)
        except Exception as bug:  # a node keeps its other input, and retries this one
            logger.exception("%s: internal error in its reader", self._name)
            error = MediaError(self._name, f"internal error: {bug!r}")
        call_in_loop(self._loop, self._finish, error)

    def _finish(self, error: MediaError | None) -> None:
        self.done.set()
        self._ended(self, error)

    def request_stop(self) -> None:
        """Set the stop event."""
        self.stop.set()
        self._stop_requested = time.monotonic()

    def is_stopping(self) -> bool:
        """Whether the thread may still end in time."""
        return not self.done.is_set() and time.monotonic() - self._stop_requested < _STOP_TIMEOUT

    async def join(self) -> bool:
        """Wait for the thread to end. Return False if it is stuck."""
        try:
            async with CleanupTimeout(_STOP_TIMEOUT):
                await self.done.wait()
        except TimeoutError:
            logger.warning("%s: its thread is blocked in a read; abandoned", self._name)
            return False
        self.thread.join()  # returns at once: setting ``done`` was the thread's last action
        return True


class Capture:
    """An input that is read between ``start`` and ``stop``. All methods must be called in the event loop.

    Args:
        name: the input's name, as the user gave it.
        read: opens and reads the input, in a thread.
        deliver: receives every frame, in the loop.
        report: receives the error when the input is lost (once, not per attempt), and ``None`` when it is back.
        reopen: whether the input is opened again after its end or an error.
        counts: whether a frame proves that the input works; called in the thread.
        stall: time without such a frame after which the input counts as lost, in seconds; ``None``: unlimited.
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
        counts: Callable[[Captured], bool] = lambda _: True,
        stall: float | None = None,
        interrupt: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._read = read
        self._counts = counts
        self._deliver = deliver
        self._report = report
        self._reopen = reopen
        self._stall = stall
        self._interrupt = interrupt
        self._attempt: _Attempt | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: set[_Attempt] = set()
        self._lost = False
        self._delay = _BACKOFF[0]
        self._dropped = 0
        self.finished = False
        """Whether the input has ended and stays closed until the next ``start()``."""

    @property
    def running(self) -> bool:
        """Whether the input is being read, or a retry is scheduled."""
        return self._attempt is not None or self._timer is not None

    @property
    def healthy(self) -> bool:
        """Whether the input is running and has not failed since its last frame."""
        return self.running and not self._lost

    @property
    def dropped(self) -> int:
        """Frames dropped because the event loop was busy."""
        return self._dropped + (self._attempt.handoff.dropped if self._attempt is not None else 0)

    def start(self) -> None:
        """Start reading. Does nothing if the input is running."""
        if not self.running:
            self.finished = False
            self._delay = _BACKOFF[0]
            self._begin()

    def retry_now(self) -> None:
        """Open a lost input now instead of after the rest of its delay. Does nothing during an attempt."""
        if self._lost and self._attempt is None and self._timer is not None:
            self._cancel_timer()
            self._delay = _BACKOFF[0]
            self._begin()

    def stop(self) -> None:
        """Request the thread to stop; ``close()`` also waits for it."""
        self._cancel_timer()
        self._lost = False
        if self._attempt is not None:
            self._abandon(self._attempt, interrupt_after=_STOP_TIMEOUT / 2)

    async def close(self) -> None:
        """Stop, and wait up to 2 s for the threads. A thread that is stuck is abandoned."""
        self.stop()
        for attempt in tuple(self._stopping):
            if not await attempt.join():
                self._stopping.discard(attempt)

    def _begin(self) -> None:
        self._timer = None
        if any(attempt.is_stopping() for attempt in self._stopping):  # a device that is still open would be busy
            self._timer = asyncio.get_running_loop().call_later(_STOP_POLL, self._begin)
            return
        if len(self._stopping) >= _MAX_ABANDONED:
            self._schedule_retry()
            return
        self._attempt = _Attempt(self.name, self._read, self._counts, self._on_frame, self._on_end)
        self._watch()

    def _on_frame(self, attempt: _Attempt, frame: Captured) -> None:
        if attempt is not self._attempt:
            return
        if isinstance(frame, StreamInfo):  # the input was opened, which does not prove that it delivers
            self._deliver(frame)
            return
        if not self._counts(frame):
            self._deliver(frame)
            return
        if self._lost and not attempt.skipped_first:  # v4l2loopback delivers its last frame to every new reader
            attempt.skipped_first = True
            return
        if self._lost:
            self._lost = False
            logger.debug("%s: delivers again", self.name)
            self._report(None)
        self._delay = _BACKOFF[0]
        self._deliver(frame)

    def _on_end(self, attempt: _Attempt, error: MediaError | None) -> None:
        self._stopping.discard(attempt)
        if attempt is not self._attempt:
            return
        self._cancel_timer()
        self._dropped += attempt.handoff.dropped
        self._attempt = None
        if error is None and not self._reopen:
            self.finished = True
            return
        self._on_failure(error or MediaError(self.name, "it ended", cause="ended"))

    def _on_failure(self, error: MediaError) -> None:
        if not self._lost:
            self._lost = True
            logger.debug("%s", error)  # the receiver of ``report`` decides how to log it
            self._report(error)
        if self._reopen:
            if error.cause == "unauthorized":
                self._delay = _BACKOFF_UNAUTHORIZED
            self._schedule_retry()
        else:
            self.finished = True

    def _schedule_retry(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._delay, self._begin)
        self._delay = min(self._delay * 2, _BACKOFF[1])

    def _watch(self) -> None:
        """Detect a stall. V4L2 has no time-out: a camera that stops delivering blocks its reader."""
        attempt = self._attempt
        if attempt is None or self._stall is None:
            return
        timeout = self._stall if attempt.delivered else max(self._stall, _OPEN_TIMEOUT)
        left = attempt.last_frame + timeout - time.monotonic()
        if left > 0:
            # A first frame replaces the long time-out of the opening, so this has to look again within the short one.
            self._timer = asyncio.get_running_loop().call_later(min(left, self._stall), self._watch)
            return
        self._timer = None
        self._abandon(attempt, interrupt_after=0)
        why = f"it has delivered nothing for {timeout:.0f} s"
        self._on_failure(MediaError(self.name, why, "reopening it", cause="silent"))

    def _abandon(self, attempt: _Attempt, interrupt_after: float) -> None:
        self._dropped += attempt.handoff.dropped
        self._attempt = None
        attempt.request_stop()
        if not attempt.done.is_set():
            self._stopping.add(attempt)
            asyncio.get_running_loop().call_later(interrupt_after, self._interrupt_read, attempt)

    def _interrupt_read(self, attempt: _Attempt) -> None:
        if self._interrupt is not None and not attempt.done.is_set():
            threading.Thread(target=self._interrupt, name=f"interrupt {self.name}", daemon=True).start()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
