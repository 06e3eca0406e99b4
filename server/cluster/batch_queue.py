"""Queue of a node's operations for the ledger, sent in order and in batches. Pure.

A batch has a number and is sent until it is answered; the ledger executes it once. While a batch is in flight, the
next one grows, so a busier node sends larger batches. Messages of clients wait for a bounded time and within a
bounded size. Presence operations wait for as long as necessary. Their number is bounded by the number of clients: at
most one operation per client waits to report its arrival, and none once the client has gone (see ``seats``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from .messages import Deliver, DeliverToAll, Operation, encode

MAX_BATCH_OPERATIONS: Final = 500
"""Maximum number of operations in a batch. Redis executes them in a few milliseconds, and nothing else meanwhile."""
MAX_BATCH_BYTES: Final = 1024 * 1024
"""Size of the messages from which a batch is full, in bytes, for the same reason."""

MAX_MESSAGES: Final = 8 * 1024 * 1024
"""Maximum size of the messages that wait for the ledger, in bytes, including ``MESSAGE_OVERHEAD`` for each."""
MESSAGE_OVERHEAD: Final = 256
"""Memory for a waiting message in addition to its text, in bytes (measured: 200). Bounds many small messages, too."""

ClientMessage = Deliver | DeliverToAll


@dataclass(slots=True, eq=False)
class QueuedOperation:
    """An operation in the queue."""

    operation: Operation
    since: float = 0.0
    """When a message was added."""
    size: int = 0
    """Size of a message with its overhead, in bytes."""
    waits: bool = True
    """Whether it is neither sent nor dropped."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Operations that are sent together. ``number`` is 1 for the first batch of a registration."""

    number: int
    words: list[str | bytes | int | float] = field(repr=False)
    """The encoded operations."""
    operations: int


class BatchQueue:
    """The operations of one node.

    Args:
        message_timeout: how long a message may wait, in seconds.
        max_messages: maximum size of the waiting messages, in bytes, including ``MESSAGE_OVERHEAD`` for each.
    """

    def __init__(self, message_timeout: float, max_messages: int) -> None:
        self._message_timeout = message_timeout
        self._max_messages = max_messages
        self._items: deque[QueuedOperation] = deque()
        self._held: deque[QueuedOperation] = deque()  # messages that wait for release_messages()
        self._messages: deque[QueuedOperation] = deque()  # the messages in both queues, oldest first
        self._dropped = 0  # items in both queues that no longer wait
        self._size = 0  # of the messages in both queues
        self._in_flight: list[QueuedOperation] = []
        self._batch: Batch | None = None
        self._number = 0
        self._holds_messages = False

    def __len__(self) -> int:
        return len(self._items) + len(self._held) + len(self._in_flight) - self._dropped

    @property
    def first_batch_in_flight(self) -> bool:
        """Whether batch 1 was sent, and it is not known whether the ledger has received it."""
        return self._number == 1 and self._batch is not None

    @property
    def deadline(self) -> float | None:
        """When the time-out of the oldest message ends."""
        while self._messages and not self._messages[0].waits:
            self._messages.popleft()
        return self._messages[0].since + self._message_timeout if self._messages else None

    def add(self, operation: Operation) -> QueuedOperation:
        """Add an operation that is not a client's message."""
        item = QueuedOperation(operation)
        self._items.append(item)
        return item

    def withdraw(self, item: QueuedOperation) -> None:
        """Drop an operation unless it was already sent."""
        if item.waits:
            self._drop(item)

    def add_message(self, message: ClientMessage, now: float) -> bool:
        """Add a client's message. ``False``: it does not fit."""
        size = len(message.text) + MESSAGE_OVERHEAD
        if self._size + size > self._max_messages:
            return False
        self._size += size
        item = QueuedOperation(message, now, size)
        self._messages.append(item)
        (self._held if self._holds_messages else self._items).append(item)
        return True

    def hold_messages(self) -> None:
        """Hold back messages added from now on, but no other operations."""
        self._holds_messages = True

    def release_messages(self) -> None:
        """Queue the messages that were held back behind all other operations."""
        self._holds_messages = False
        self._items.extend(self._held)
        self._held.clear()

    def take_expired(self, now: float) -> list[ClientMessage]:
        """Remove and return the messages that have waited too long."""
        expired: list[ClientMessage] = []
        while (deadline := self.deadline) is not None and deadline <= now:
            item = self._messages.popleft()
            assert isinstance(item.operation, ClientMessage)
            expired.append(item.operation)
            self._size -= item.size
            self._drop(item)
        return expired

    def next_batch(self, *, empty: bool = False) -> Batch | None:
        """Return the batch in flight, or the next one. ``None``: there are no operations and not ``empty``."""
        if self._batch is not None:
            return self._batch
        words: list[str | bytes | int | float] = []
        size = 0
        while self._items and len(self._in_flight) < MAX_BATCH_OPERATIONS and size < MAX_BATCH_BYTES:
            item = self._items.popleft()
            if not item.waits:
                self._dropped -= 1
                continue
            item.waits = False
            self._size -= item.size
            size += item.size
            self._in_flight.append(item)
            words += encode(item.operation)
        if not self._in_flight and not empty:
            return None
        self._number += 1
        self._batch = Batch(self._number, words, len(self._in_flight))
        return self._batch

    def acknowledge(self) -> None:
        """Record that the batch in flight was answered."""
        self._batch = None
        self._in_flight = []

    def reset(self) -> tuple[list[ClientMessage], list[tuple[ClientMessage, float]]]:
        """Empty the queue, and start again with batch 1.

        Returns:
            The messages of the batch in flight, which the ledger may or may not have received; and the waiting
            messages, each with the time when it was added.
        """
        in_flight = [item.operation for item in self._in_flight if isinstance(item.operation, ClientMessage)]
        waiting = [
            (item.operation, item.since)
            for item in (*self._items, *self._held)
            if item.waits and isinstance(item.operation, ClientMessage)
        ]
        for item in self._items:
            item.waits = False
        self._items.clear()
        self._held.clear()
        self._messages.clear()
        self._dropped = self._size = 0
        self.acknowledge()
        self._number = 0
        return in_flight, waiting

    def _drop(self, item: QueuedOperation) -> None:
        """Mark ``item`` as dropped. Once half of the queue is dropped, compact it: Redis may be away for days."""
        item.waits = False
        self._dropped += 1
        if 2 * self._dropped > len(self._items) + len(self._held):
            self._items = deque(other for other in self._items if other.waits)
            self._held = deque(other for other in self._held if other.waits)
            self._dropped = 0
