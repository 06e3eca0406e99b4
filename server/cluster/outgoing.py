"""Operations on their way to the ledger, in order, one batch at a time. PURE.

A batch has a number and is said until it is answered, so the ledger does it once whatever happens to an answer.
While one is under way the next one grows: the busier the node, the larger its batches. Frames wait a bounded time in
bounded room; presence waits as long as it takes, and is bounded by the clients that there are.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .words import Cast, Deliver, Operation, arguments

MOST: Final = 500
"""Operations of a batch: some milliseconds of Redis, in which it does nothing else."""
MOST_OCTETS: Final = 1024 * 1024

Carried = Deliver | Cast


@dataclass(slots=True, eq=False)
class _Item:
    operation: Operation | None
    """None: too late."""
    since: float = 0.0
    octets: int = 0
    taken: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """What is said to the ledger at once. ``number`` 1 is a node's first."""

    number: int
    words: list[str | bytes | int | float] = field(repr=False)
    operations: int


class Outgoing:
    """The queue.

    Args:
        patience: seconds a frame waits.
        room: octets of frames that may wait.
    """

    def __init__(self, patience: float, room: int) -> None:
        self._patience = patience
        self._room = room
        self._items: deque[_Item] = deque()
        self._held: deque[_Item] = deque()
        self._aging: deque[_Item] = deque()  # the frames of both
        self._octets = 0
        self._under_way: list[_Item] = []
        self._batch: Batch | None = None
        self._number = 0
        self.holding = False
        """Frames wait until ``release``, presence does not."""

    def __len__(self) -> int:
        return len(self._items) + len(self._held) + len(self._under_way)

    @property
    def first_is_unanswered(self) -> bool:
        """Whether batch 1 was said, and nobody knows whether the ledger got it."""
        return self._number == 1 and self._batch is not None

    @property
    def deadline(self) -> float | None:
        """When the oldest frame has waited too long."""
        while self._aging and (self._aging[0].taken or self._aging[0].operation is None):
            self._aging.popleft()
        return self._aging[0].since + self._patience if self._aging else None

    def say(self, operation: Operation) -> None:
        """Add anything but a frame of a client."""
        self._items.append(_Item(operation))

    def carry(self, operation: Carried, now: float) -> bool:
        """Add a frame of a client. False: it does not fit."""
        octets = len(operation.text)
        if self._octets + octets > self._room:
            return False
        self._octets += octets
        item = _Item(operation, now, octets)
        self._aging.append(item)
        (self._held if self.holding else self._items).append(item)
        return True

    def release(self) -> None:
        """Let the frames go that were held."""
        self.holding = False
        self._items.extend(self._held)
        self._held.clear()

    def overdue(self, now: float) -> list[Carried]:
        """Frames that waited too long; they are dropped here."""
        found: list[Carried] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            item = self._aging.popleft()
            assert isinstance(item.operation, Carried)
            found.append(item.operation)
            self._octets -= item.octets
            item.operation = None
        return found

    def take(self, *, empty: bool = False) -> Batch | None:
        """What is to be said now: the batch under way again, or the next one. None: nothing, unless ``empty``."""
        if self._batch is not None:
            return self._batch
        words: list[str | bytes | int | float] = []
        octets = 0
        while self._items and len(self._under_way) < MOST and octets < MOST_OCTETS:
            item = self._items.popleft()
            if item.operation is None:
                continue
            item.taken = True
            self._octets -= item.octets
            octets += item.octets
            self._under_way.append(item)
            words += arguments(item.operation)
        if not self._under_way and not empty:
            return None
        self._number += 1
        self._batch = Batch(self._number, words, len(self._under_way))
        return self._batch

    def done(self) -> None:
        """The batch under way was answered."""
        self._batch = None
        self._under_way = []

    def restart(self) -> tuple[list[Carried], list[tuple[Carried, float]]]:
        """Begin anew with nothing, and batch 1. Returns the frames of the batch under way, which may have arrived or
        not, and those that waited, with since when."""
        lost = [item.operation for item in self._under_way if isinstance(item.operation, Carried)]
        waiting = [
            (item.operation, item.since)
            for item in (*self._items, *self._held)
            if isinstance(item.operation, Carried)
        ]
        self._items.clear()
        self._held.clear()
        self._aging.clear()
        self._octets = 0
        self.done()
        self._number = 0
        return lost, waiting
