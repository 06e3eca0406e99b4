"""The renewal queue: earliest first, and every item once per interval."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.renewal_queue import RenewalQueue


def test_earliest_item_is_due_first_and_scheduled_again() -> None:
    queue: RenewalQueue[int] = RenewalQueue(10)
    assert queue.deadline is None and queue.take_due(99, 5) == []
    for item in (1, 2, 3):
        queue.schedule(item, float(item))
    assert queue.deadline == 11 and queue.take_due(10.9, 5) == []
    assert queue.take_due(12, 5) == [1, 2]
    assert queue.deadline == 13
    assert queue.take_due(22, 1) == [3], "no more than were asked for"
    assert queue.take_due(22, 5) == [1, 2]


def test_removed_item_is_not_due() -> None:
    queue: RenewalQueue[int] = RenewalQueue(10)
    queue.schedule(1, 0)
    queue.remove(1)
    queue.remove(2)
    assert len(queue) == 0 and queue.take_due(99, 5) == []


@given(st.lists(st.tuples(st.sampled_from("hfd"), st.integers(0, 5), st.integers(0, 7))))
def test_every_item_is_due_once_per_interval(steps: list[tuple[str, int, int]]) -> None:
    """Compared with a plain table, for any order of additions, removals and time."""
    queue: RenewalQueue[int] = RenewalQueue(10)
    last: dict[int, int] = {}
    now = 0
    for step, item, pause in steps:
        now += pause
        if step == "h":
            queue.schedule(item, now)
            last[item] = now
        elif step == "f":
            queue.remove(item)
            last.pop(item, None)
        else:
            late = {item for item, at in last.items() if at + 10 <= now}
            assert set(queue.take_due(now, 100)) == late
            last |= dict.fromkeys(late, now)
        assert queue.deadline == min((at + 10 for at in last.values()), default=None)
