"""Log lines that a remote can cause: at most one per second and cause, with a count of those suppressed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from typing import Final

LOG_INTERVAL: Final = 1.0
"""Minimum time between two lines of one cause, in seconds. A remote can send thousands of invalid packets in it."""

MAX_CAUSES: Final = 256
"""Maximum number of causes stored. When there are more, the oldest one is dropped. Most are constants of the code."""


class RateLimiter:
    """A limit of one event per cause and ``interval`` seconds. Counts those in between. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, interval: float = LOG_INTERVAL) -> None:
        self._clock = clock
        self._interval = interval
        self._causes: dict[Hashable, tuple[float, int]] = {}  # end of the interval, suppressed in it

    def allow(self, cause: Hashable) -> int | None:
        """Return the number of events suppressed since the last allowed one; ``None`` if this one is suppressed."""
        now = self._clock()
        until, suppressed = self._causes.pop(cause, (now, 0))
        if now < until:
            self._causes[cause] = (until, suppressed + 1)
            return None
        if len(self._causes) >= MAX_CAUSES:
            del self._causes[next(iter(self._causes))]
        self._causes[cause] = (now + self._interval, 0)
        return suppressed


SHARED: Final = RateLimiter()
"""The limiter of all loggers. One per call would limit nothing, because a remote can start any number of calls."""


class LimitedLogger:
    """A front of ``logger`` that logs at most one line per second and cause.

    The cause is the message before formatting, with ``cause`` if given. It must not contain text of a remote.
    """

    def __init__(self, logger: logging.Logger, limiter: RateLimiter = SHARED) -> None:
        self._logger = logger
        self._limiter = limiter

    def log(self, level: int, message: str, *args: object, cause: Hashable = None, exc_info: bool = False) -> None:
        """Log ``message``, unless one of its cause was logged within the last second."""
        if not self._logger.isEnabledFor(level):
            return
        suppressed = self._limiter.allow((self._logger.name, message, cause))
        if suppressed is not None:
            more = f" (and {suppressed} more, suppressed)" if suppressed else ""
            self._logger.log(level, message + more, *args, exc_info=exc_info)

    def debug(self, message: str, *args: object, cause: Hashable = None, exc_info: bool = False) -> None:
        self.log(logging.DEBUG, message, *args, cause=cause, exc_info=exc_info)

    def info(self, message: str, *args: object, cause: Hashable = None) -> None:
        self.log(logging.INFO, message, *args, cause=cause)

    def warning(self, message: str, *args: object, cause: Hashable = None) -> None:
        self.log(logging.WARNING, message, *args, cause=cause)

    def exception(self, message: str, *args: object) -> None:
        """Log ``message`` as an error, with the traceback of the exception that is being handled."""
        self.log(logging.ERROR, message, *args, exc_info=True)
