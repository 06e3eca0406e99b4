"""When the relay is tried again: soon while its host answers, ever less often when nobody does, never in step."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from peer.signaling.backoff import BACKOFF_MAX, BACKOFF_MIN, PATIENCE, QUICK, Backoff


def longest(lower: float, upper: float) -> float:
    """Chance at its worst."""
    assert lower <= upper
    return upper


def test_a_host_that_refuses_is_asked_often_enough_to_be_back_within_two_seconds() -> None:
    backoff = Backoff(longest)
    now = 0.0
    while now < PATIENCE:
        delay = backoff.delay(now, answered=True)
        assert delay == QUICK < 2
        now += delay


def test_a_host_that_goes_on_refusing_is_asked_ever_less_often_and_for_ever() -> None:
    backoff = Backoff(longest)
    backoff.delay(0.0, answered=True)
    delays = [backoff.delay(PATIENCE + n, answered=True) for n in range(2000)]
    assert delays[:5] == [1.0, 2.0, 4.0, 8.0, BACKOFF_MAX]
    assert set(delays[5:]) == {BACKOFF_MAX}


def test_a_host_that_does_not_answer_is_asked_ever_less_often() -> None:
    backoff = Backoff(longest)
    assert [backoff.delay(0.0, answered=False) for _ in range(5)] == [1.0, 2.0, 4.0, 8.0, BACKOFF_MAX]


def test_a_host_that_boots_is_asked_often_as_soon_as_it_answers() -> None:
    backoff = Backoff(longest)
    for _ in range(10):
        backoff.delay(1.0, answered=False)
    assert backoff.delay(100.0, answered=True) == QUICK


def test_who_was_in_the_room_begins_anew() -> None:
    backoff = Backoff(longest)
    for _ in range(10):
        backoff.delay(0.0, answered=False)
    backoff.reached()
    assert backoff.delay(2 * PATIENCE, answered=True) == QUICK
    assert backoff.delay(2 * PATIENCE, answered=False) == 1.0


def test_a_relay_that_wants_us_later_is_left_alone_for_a_while() -> None:
    backoff = Backoff(lambda lower, _: lower)
    assert [backoff.delay(0.0, answered=True, asked_to_wait=True) for _ in range(3)] == [BACKOFF_MAX / 2] * 3
    assert backoff.delay(0.0, answered=False) == BACKOFF_MIN


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1000)), max_size=50), st.randoms(use_true_random=False))
def test_every_delay_keeps_the_bounds(failures: list[tuple[bool, float]], chance: random.Random) -> None:
    backoff = Backoff(chance.uniform)
    now = 0.0
    for answered, later in failures:
        now += later
        assert BACKOFF_MIN <= backoff.delay(now, answered=answered) <= BACKOFF_MAX


def test_a_thousand_peers_do_not_knock_at_once() -> None:
    chance = random.Random(4)
    knocks = [Backoff(chance.uniform).delay(0.0, answered=True) for _ in range(1000)]
    tenths = [sum(int(knock * 10) == tenth for knock in knocks) for tenth in range(5, 15)]
    assert max(tenths) < 150, "1,000 a second, evenly"
