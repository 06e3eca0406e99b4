"""The memory budget: what is counted, and how holders are made to release memory."""

from __future__ import annotations

from server.memory_budget import MemoryBudget


def fail() -> None:
    raise AssertionError("the limit is not exceeded")


def test_usage_is_replaced_and_its_sum_kept() -> None:
    budget: MemoryBudget[str] = MemoryBudget(100, fail)
    for size in (10, 60, 40):
        budget.set_usage("a", size)
    budget.set_usage("b", 60)
    assert budget.used == 100 and budget.largest() == ["b", "a"]
    budget.set_usage("b", 0)
    assert budget.used == 40 and budget.largest() == ["a"]


def test_budget_without_a_limit_is_never_exceeded() -> None:
    budget: MemoryBudget[str] = MemoryBudget(0, fail)
    budget.set_usage("a", 1 << 40)
    assert budget.used == 1 << 40


def test_excess_leaves_an_eighth_free() -> None:
    budget: MemoryBudget[str] = MemoryBudget(80, lambda: None)
    budget.set_usage("a", 70)
    assert budget.excess == 0
    budget.set_usage("a", 81)
    assert budget.excess == 11


def test_exceeded_is_called_once_and_not_while_relieving() -> None:
    calls: list[list[str]] = []

    def exceeded() -> None:
        calls.append(budget.largest())
        for holder in calls[-1]:
            if not budget.excess:
                return
            budget.set_usage(holder, 1)  # it releases less than everything
            budget.set_usage("close frame", budget.used)  # and queues data meanwhile
            budget.set_usage("close frame", 0)

    budget: MemoryBudget[str] = MemoryBudget(100, exceeded)
    for holder, size in (("a", 20), ("b", 50), ("c", 30)):
        budget.set_usage(holder, size)
    assert calls == []
    budget.set_usage("a", 21)
    assert calls == [["b", "c", "a"]]
    assert budget.used == 1 + 30 + 21
    for holder in "abc":
        budget.set_usage(holder, 0)
    assert budget.used == 0 and budget.largest() == []
