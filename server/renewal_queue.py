"""Fixed-interval schedule, used for keepalive pings and the renewal of TURN credentials. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

C = TypeVar("C", bound=Hashable)


class RenewalQueue(Generic[C]):
    """Items that are due at a fixed interval.

    All items have the same interval, so they stay in the order of their deadlines without being sorted.

    Args:
        interval: time between two renewals of an item, in seconds.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._deadlines: OrderedDict[C, float] = OrderedDict()

    @property
    def deadline(self) -> float | None:
        """When the first item is due; ``None`` if the queue is empty."""
        return next(iter(self._deadlines.values()), None)

    def __len__(self) -> int:
        return len(self._deadlines)

    def schedule(self, item: C, now: float) -> None:
        """Add ``item``, or restart its interval. ``now`` must not be before that of an earlier call."""
        self._deadlines[item] = now + self._interval
        self._deadlines.move_to_end(item)

    def remove(self, item: C) -> None:
        """Remove ``item``, if it is in the queue."""
        self._deadlines.pop(item, None)

    def take_due(self, now: float, limit: int) -> list[C]:
        """Return at most ``limit`` items that are due, the earliest first, and restart their intervals."""
        due: list[C] = []
        while len(due) < limit and (deadline := self.deadline) is not None and deadline <= now:
            item = next(iter(self._deadlines))
            self.schedule(item, now)
            due.append(item)
        return due
