"""Operations on their way to the ledger, in order, one batch at a time. PURE.

A batch has a number and is said until it is answered, so the ledger does it once whatever happens to an answer.
While one is under way the next one grows: the busier the node, the larger its batches. Frames wait a bounded time in
bounded room; presence waits as long as it takes, and is bounded by the clients that there are: of each one operation
waits at most to say that it came, and none when it has gone (``node``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .messages import Cast, Deliver, Operation, arguments

MOST: Final = 500
"""Operations of a batch: some milliseconds of Redis, in which it does nothing else."""
MOST_OCTETS: Final = 1024 * 1024

ROOM: Final = 8 * 1024 * 1024
"""Octets of frames that may wait, with ``KEEP`` for each."""
KEEP: Final = 256
"""Octets that a frame which waits takes beside its own (measured: 200), so that many small ones count as what they
are."""

Carried = Deliver | Cast


@dataclass(slots=True, eq=False)
class Item:
    """An operation in line."""

    operation: Operation
    since: float = 0.0
    octets: int = 0
    waits: bool = True
    """Neither said yet, nor dropped."""


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
        room: octets of frames that may wait, with ``KEEP`` for each.
    """

    def __init__(self, patience: float, room: int) -> None:
        self._patience = patience
        self._room = room
        self._items: deque[Item] = deque()
        self._held: deque[Item] = deque()
        self._aging: deque[Item] = deque()  # the frames of both
        self._dropped = 0  # of both, those that wait no more
        self._octets = 0
        self._under_way: list[Item] = []
        self._batch: Batch | None = None
        self._number = 0
        self.holding = False
        """Frames wait until ``release``, presence does not."""

    def __len__(self) -> int:
        return len(self._items) + len(self._held) + len(self._under_way) - self._dropped

    @property
    def first_is_unanswered(self) -> bool:
        """Whether batch 1 was said, and nobody knows whether the ledger got it."""
        return self._number == 1 and self._batch is not None

    @property
    def deadline(self) -> float | None:
        """When the oldest frame has waited too long."""
        while self._aging and not self._aging[0].waits:
            self._aging.popleft()
        return self._aging[0].since + self._patience if self._aging else None

    def say(self, operation: Operation) -> Item:
        """Add anything but a frame of a client."""
        item = Item(operation)
        self._items.append(item)
        return item

    def withdraw(self, item: Item) -> None:
        """It need not be said any more, if it was not."""
        if item.waits:
            self._drop(item)

    def carry(self, operation: Carried, now: float) -> bool:
        """Add a frame of a client. False: it does not fit."""
        octets = len(operation.text) + KEEP
        if self._octets + octets > self._room:
            return False
        self._octets += octets
        item = Item(operation, now, octets)
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
            self._drop(item)
        return found

    def take(self, *, empty: bool = False) -> Batch | None:
        """What is to be said now: the batch under way again, or the next one. None: nothing, unless ``empty``."""
        if self._batch is not None:
            return self._batch
        words: list[str | bytes | int | float] = []
        octets = 0
        while self._items and len(self._under_way) < MOST and octets < MOST_OCTETS:
            item = self._items.popleft()
            if not item.waits:
                self._dropped -= 1
                continue
            item.waits = False
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
            if item.waits and isinstance(item.operation, Carried)
        ]
        for item in self._items:
            item.waits = False
        self._items.clear()
        self._held.clear()
        self._aging.clear()
        self._dropped = self._octets = 0
        self.done()
        self._number = 0
        return lost, waiting

    def _drop(self, item: Item) -> None:
        """It stays in line; when they are half of it all go, because Redis may be away for days."""
        item.waits = False
        self._dropped += 1
        if 2 * self._dropped > len(self._items) + len(self._held):
            self._items = deque(other for other in self._items if other.waits)
            self._held = deque(other for other in self._held if other.waits)
            self._dropped = 0
