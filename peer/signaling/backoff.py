"""When to try the relay again. PURE: the time is an argument, and so is chance.

A relay that restarts leaves a host that answers at once: connection refused, or a proxy's 502. Asking such a host
costs one packet each way, so it is asked every ``QUICK`` seconds for the first ``PATIENCE`` seconds, and every peer
is back within 2 s of the relay. A host that does not answer is asked ever less often, up to ``BACKOFF_MAX``. A relay
that is there and says that we are too many or too fast (docs/limits.md) is left alone for half of that at least. Each
delay is drawn anew: the peers of a relay that comes back knock spread over a second and not all at once.
docs/decisions/0011-restart-without-a-ripple.md has the price.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

BACKOFF_MIN: Final = 0.5
BACKOFF_MAX: Final = 10.0
"""Seconds between two attempts, for ever; the upper bound is doubled each time from the lower one."""

QUICK: Final = 1.5
"""The most seconds between two attempts at a host that answers: 2, less what connecting and joining takes."""

PATIENCE: Final = 300.0
"""Seconds for which a host that refuses is taken for one whose relay restarts."""


class Backoff:
    """The delays of one client.

    Args:
        draw: a number between two bounds, by chance.
    """

    def __init__(self, draw: Callable[[float, float], float] = random.uniform) -> None:
        self._draw = draw
        self._tries = 0
        self._away_since: float | None = None

    def reached(self) -> None:
        """We are in the room: the next loss begins anew."""
        self._tries = 0
        self._away_since = None

    def delay(self, now: float, *, answered: bool, asked_to_wait: bool = False) -> float:
        """Seconds to wait after a failure. ``answered``: the host did answer, only the relay is not there.
        ``asked_to_wait``: the relay is there and wants us later."""
        if self._away_since is None:
            self._away_since = now
        if asked_to_wait:
            return self._draw(BACKOFF_MAX / 2, BACKOFF_MAX)
        if answered and now - self._away_since < PATIENCE:
            return self._draw(BACKOFF_MIN, QUICK)
        self._tries += 1
        doubled = BACKOFF_MIN * 2 ** min(self._tries, 16)  # a number of tries without end is no float
        return self._draw(BACKOFF_MIN, min(doubled, BACKOFF_MAX))
