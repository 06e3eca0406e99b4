"""Backoff: short delays while the relay restarts, exponential ones while its host is down, never in step."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from peer.signaling.backoff import BACKOFF_MAX, BACKOFF_MIN, MAX_RESTART_DELAY, RESTART_WINDOW, Backoff


def longest(lower: float, upper: float) -> float:
    """Return the longest possible delay."""
    assert lower <= upper
    return upper


def test_delay_during_restart_is_below_two_seconds() -> None:
    backoff = Backoff(longest)
    now = 0.0
    while now < RESTART_WINDOW:
        delay = backoff.delay(now, host_answered=True)
        assert delay == MAX_RESTART_DELAY < 2
        now += delay


def test_delay_after_restart_window_doubles_to_the_maximum() -> None:
    backoff = Backoff(longest)
    backoff.delay(0.0, host_answered=True)
    delays = [backoff.delay(RESTART_WINDOW + n, host_answered=True) for n in range(2000)]
    assert delays[:5] == [1.0, 2.0, 4.0, 8.0, BACKOFF_MAX]
    assert set(delays[5:]) == {BACKOFF_MAX}


def test_delay_without_answer_doubles_to_the_maximum() -> None:
    backoff = Backoff(longest)
    assert [backoff.delay(0.0, host_answered=False) for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, BACKOFF_MAX]


def test_delay_once_host_answers_is_short_again() -> None:
    backoff = Backoff(longest)
    for _ in range(10):
        backoff.delay(1.0, host_answered=False)
    assert backoff.delay(100.0, host_answered=True) == MAX_RESTART_DELAY


def test_reset_restarts_window_and_doubling() -> None:
    backoff = Backoff(longest)
    for _ in range(10):
        backoff.delay(0.0, host_answered=False)
    backoff.reset()
    assert backoff.delay(2 * RESTART_WINDOW, host_answered=True) == MAX_RESTART_DELAY
    assert backoff.delay(2 * RESTART_WINDOW, host_answered=False) == 1.0


def test_delay_after_rejection_is_at_least_half_of_maximum() -> None:
    backoff = Backoff(lambda lower, _: lower)
    assert [backoff.delay(0.0, host_answered=True, rejected=True) for _ in range(3)] == [BACKOFF_MAX / 2] * 3
    assert backoff.delay(0.0, host_answered=False) == BACKOFF_MIN


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=50), st.randoms(use_true_random=False))
def test_every_delay_is_within_bounds(failures: list[tuple[bool, float]], chance: random.Random) -> None:
    backoff = Backoff(chance.uniform)
    now = 0.0
    for answered, later in failures:
        now += later
        assert BACKOFF_MIN <= backoff.delay(now, host_answered=answered) <= BACKOFF_MAX


def test_delays_of_a_thousand_peers_are_spread_evenly() -> None:
    chance = random.Random(4)
    delays = [Backoff(chance.uniform).delay(0.0, host_answered=True) for _ in range(1000)]
    tenths = [sum(int(delay * 10) == tenth for delay in delays) for tenth in range(5, 15)]
    assert max(tenths) < 150, "1,000 attempts spread over one second"
