"""Delays between attempts to connect to the relay.

Pure: the time and the random generator are arguments.

There are three cases:

- The host answers, but no relay listens: connection refused, or a proxy's 502. This is what a restart of the relay
  looks like. An attempt costs one packet in each direction, so for the first ``RESTART_WINDOW`` the delay is at most
  ``MAX_RESTART_DELAY``. Every peer is back within 2 s after the relay.
- The host does not answer: exponential backoff up to ``BACKOFF_MAX``.
- The relay rejects us because of a limit (docs/limits.md): at least half of ``BACKOFF_MAX``.

Every delay is random, so that the peers of a restarted relay return over one second and not all at once.
docs/decisions/0011-restart-without-a-ripple.md states the cost.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

BACKOFF_MIN: Final = 0.5
BACKOFF_MAX: Final = 10.0
"""Bounds of every delay, in seconds. Exponential backoff doubles the upper bound, from the lower bound up to the
maximum. The number of attempts is unlimited."""

MAX_RESTART_DELAY: Final = 1.5
"""Maximum delay between attempts while the relay restarts, in seconds: 2 s less the time to connect and join."""

RESTART_WINDOW: Final = 300.0
"""Time, in seconds, for which a host that refuses connections is considered to be restarting its relay."""


class Backoff:
    """Delays between the attempts of one client.

    Args:
        uniform: returns a random number between two bounds.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._attempts = 0
        self._away_since: float | None = None

    def reset(self) -> None:
        """Start over after a successful join."""
        self._attempts = 0
        self._away_since = None

    def delay(self, now: float, *, host_answered: bool, rejected: bool = False) -> float:
        """Return the delay after a failed attempt or a lost connection, in seconds.

        Args:
            now: seconds on any monotonic clock.
            host_answered: whether the host refused the connection, or we had joined before the connection was lost.
            rejected: whether the relay rejected us because of a limit.
        """
        if self._away_since is None:
            self._away_since = now
        if rejected:
            return self._uniform(BACKOFF_MAX / 2, BACKOFF_MAX)
        if host_answered and now - self._away_since < RESTART_WINDOW:
            return self._uniform(BACKOFF_MIN, MAX_RESTART_DELAY)
        self._attempts += 1
        doubled = BACKOFF_MIN * 2 ** min(self._attempts, 16)  # without the bound it would overflow a float
        return self._uniform(BACKOFF_MIN, min(doubled, BACKOFF_MAX))
