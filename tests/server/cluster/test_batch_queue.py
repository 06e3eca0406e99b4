"""The queue of operations for the ledger: batches, bounds, expiry, and a new registration. Time is the test's."""

from __future__ import annotations

import pytest

from server.cluster import batch_queue
from server.cluster.batch_queue import MESSAGE_OVERHEAD, Batch, BatchQueue
from server.cluster.messages import Deliver, Leave


def leave(n: int) -> Leave:
    return Leave("/", f"p{n}", str(n))


def message(n: int, size: int = 1) -> Deliver:
    return Deliver("/", "a", "1", f"p{n}", b"x" * size)


def queue(messages: int = 100, timeout: float = 5.0) -> BatchQueue:
    """A queue with room for this many messages of one byte."""
    return BatchQueue(timeout, messages * (1 + MESSAGE_OVERHEAD))


def tickets(batch: Batch | None) -> list[object]:
    """The third argument of each operation in a batch of leaves."""
    assert batch is not None
    return batch.words[3::4]


def test_batch_is_in_order_and_repeated_until_acknowledged() -> None:
    found = queue()
    assert found.next_batch() is None
    for n in range(3):
        found.add(leave(n))
    batch = found.next_batch()
    found.add(leave(3))
    assert batch is not None and (batch.number, batch.operations) == (1, 3)
    assert tickets(batch) == ["0", "1", "2"]
    assert found.next_batch() is batch and found.first_batch_in_flight and len(found) == 4
    found.acknowledge()
    second = found.next_batch()
    assert second is not None and (second.number, tickets(second)) == (2, ["3"])
    assert not found.first_batch_in_flight


def test_empty_batch_is_made_on_request_only() -> None:
    found = queue()
    assert found.next_batch(empty=True) == Batch(1, [], 0)


def test_batch_is_limited_in_operations_and_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_queue, "MAX_BATCH_OPERATIONS", 2)
    found = queue()
    for n in range(3):
        found.add(leave(n))
    assert tickets(found.next_batch()) == ["0", "1"]
    found.acknowledge()
    assert tickets(found.next_batch()) == ["2"]
    monkeypatch.setattr(batch_queue, "MAX_BATCH_OPERATIONS", 500)
    monkeypatch.setattr(batch_queue, "MAX_BATCH_BYTES", 2 * (1 + MESSAGE_OVERHEAD))
    found.acknowledge()
    for n in range(3):
        found.add_message(message(n), 0.0)
    batch = found.next_batch()
    assert batch is not None and batch.operations == 2


def test_messages_are_bounded_until_they_are_sent() -> None:
    found = queue(messages=2)
    assert found.add_message(message(0), 0.0) and found.add_message(message(1), 0.0)
    assert not found.add_message(message(2), 0.0)
    found.add(leave(0))  # not a message
    found.next_batch()
    assert found.add_message(message(3), 0.0)


def test_withdrawn_operation_is_not_sent() -> None:
    found = queue()
    items = [found.add(leave(n)) for n in range(3)]
    found.withdraw(items[1])
    found.withdraw(items[1])
    assert len(found) == 2 and tickets(found.next_batch()) == ["0", "2"]
    found.withdraw(items[0])  # already sent
    assert len(found) == 2


def test_messages_expire_and_other_operations_do_not() -> None:
    found = queue()
    found.add(leave(0))
    found.add_message(message(0), 1.0)
    found.add_message(message(1), 2.0)
    assert found.deadline == 6.0 and found.take_expired(5.9) == []
    assert found.take_expired(6.0) == [message(0)]
    assert found.deadline == 7.0
    found.next_batch()
    assert found.deadline is None and found.take_expired(100.0) == []


def test_expired_messages_leave_room_and_no_items_behind() -> None:
    found = queue(messages=3)
    for now in range(100):
        for n in range(3):
            assert found.add_message(message(n), 10.0 * now)
        assert len(found.take_expired(10.0 * now + 5)) == 3
    assert len(found) == 0 and len(found._items) == 0


def test_held_messages_wait_behind_other_operations() -> None:
    found = queue()
    found.hold_messages()
    found.add_message(message(0), 0.0)
    found.add(leave(0))
    assert tickets(found.next_batch()) == ["0"]
    found.acknowledge()
    assert found.next_batch() is None and len(found) == 1
    found.release_messages()
    batch = found.next_batch()
    assert batch is not None and batch.words[0] == "send"


def test_held_messages_expire_too() -> None:
    found = queue()
    found.hold_messages()
    found.add_message(message(0), 0.0)
    assert found.take_expired(5.0) == [message(0)] and len(found) == 0


def test_reset_returns_messages_and_starts_with_batch_1() -> None:
    found = queue(messages=3)
    found.add_message(message(0), 1.0)
    found.add(leave(0))
    found.next_batch()
    item = found.add(leave(1))
    found.add_message(message(1), 2.0)
    found.hold_messages()
    found.add_message(message(2), 3.0)
    assert found.reset() == ([message(0)], [(message(1), 2.0), (message(2), 3.0)])
    assert len(found) == 0 and found.deadline is None and not item.waits
    found.add(leave(2))
    batch = found.next_batch()
    assert batch is not None and (batch.number, tickets(batch)) == (1, ["2"])
