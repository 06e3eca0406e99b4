"""Log records with structured facts (``--log-format json``), and log lines that are limited in rate."""

from __future__ import annotations

import logging
from typing import Final

LOG_INTERVAL: Final = 1.0
"""Minimum time between two lines of one kind, in seconds. A client can cause any number of them."""


def facts(event: str, **found: object) -> dict[str, dict[str, object]]:
    """Return the ``extra`` of a logging call: ``event`` and ``found`` become keys of the JSON object."""
    return {"facts": {"event": event} | found}


class RateLimitedLogger:
    """A front of ``logger`` that logs at most one line per second and kind, with the number of lines left out.

    The kinds are defined by the relay, so a client cannot create new ones.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def info(self, kind: str, now: float, line: str, event: str, **found: object) -> None:
        """Log ``line``, unless one of its kind was logged within the last second."""
        if now < self._next.get(kind, now):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._next[kind] = now + LOG_INTERVAL
        more = self._left_out.pop(kind, 0)
        self._logger.info("%s%s", line, f", and {more} more" if more else "", extra=facts(event, **found, more=more))
