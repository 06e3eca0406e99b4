"""Whose turn it is. PURE: time is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class Rota(Generic[C]):
    """All wait equally long, so they stay in the order of their times, and nothing is sorted.

    Args:
        every: seconds from one turn to the next.
    """

    def __init__(self, every: float) -> None:
        self._every = every
        self._waiting: OrderedDict[C, float] = OrderedDict()

    @property
    def deadline(self) -> float | None:
        """When ``due`` has somebody."""
        return next(iter(self._waiting.values()), None)

    def __len__(self) -> int:
        return len(self._waiting)

    def had(self, who: C, now: float) -> None:
        """``who`` had a turn at ``now``, or is new; that is no earlier than the time before."""
        self._waiting[who] = now + self._every
        self._waiting.move_to_end(who)

    def forget(self, who: C) -> None:
        """``who`` is gone, or never came."""
        self._waiting.pop(who, None)

    def due(self, now: float, most: int) -> list[C]:
        """Whose time has come, at most so many, the longest waiting first; they had their turn now."""
        found: list[C] = []
        while len(found) < most and (deadline := self.deadline) is not None and deadline <= now:
            who = next(iter(self._waiting))
            self.had(who, now)
            found.append(who)
        return found
