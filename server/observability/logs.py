"""A log line for people with its facts beside it, for ``--log-format json``; and lines that do not come too often."""

from __future__ import annotations

import logging
from typing import Final

SELDOM: Final = 1.0
"""Seconds between two lines of a kind."""


def facts(event: str, **found: object) -> dict[str, dict[str, object]]:
    """What goes into ``extra`` of a logging call: ``event`` and ``found`` become keys of the JSON object."""
    return {"facts": {"event": event} | found}


class Seldom:
    """Lines of which an attacker could cause any number: one a second of each kind, which tells how many were left
    out. A kind is the relay's own word."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def info(self, kind: str, now: float, line: str, event: str, **found: object) -> None:
        """Say ``line`` if it is time for one of its kind."""
        if now < self._next.get(kind, now):
            self._left_out[kind] = self._left_out.get(kind, 0) + 1
            return
        self._next[kind] = now + SELDOM
        more = self._left_out.pop(kind, 0)
        self._logger.info("%s%s", line, f", and {more} more" if more else "", extra=facts(event, **found, more=more))
