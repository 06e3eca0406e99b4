"""Budget of requests: a burst, then one per interval."""

from __future__ import annotations

import pytest

from peer.request_budget import RequestBudget

INTERVAL, BURST = 2.0, 4


def test_burst_is_granted_at_once_and_the_next_waits() -> None:
    budget = RequestBudget(INTERVAL, BURST)
    assert [budget.spend(100.0) for _ in range(BURST)] == [0] * BURST
    assert budget.spend(100.0) == pytest.approx(INTERVAL)
    assert budget.spend(100.5) == pytest.approx(INTERVAL - 0.5), "a request that waits spends nothing"
    assert budget.spend(100.0 + INTERVAL) == 0


def test_flood_gets_one_request_per_interval() -> None:
    budget = RequestBudget(INTERVAL, BURST)
    granted = sum(budget.spend(n / 100) == 0 for n in range(100 * 60))
    assert granted == BURST + int(60 / INTERVAL) - 1


def test_rare_requests_are_never_delayed() -> None:
    budget = RequestBudget(INTERVAL, BURST)
    assert {budget.spend(n * INTERVAL) for n in range(100)} == {0.0}
