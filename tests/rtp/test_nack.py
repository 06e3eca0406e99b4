"""Lost packets are asked for at once, again when an answer is due, and given up before a picture freezes for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.nack import FIRST_RTT, MOST, PATIENCE, QUIET, RETRY, Losses


def arrived(losses: Losses, *numbers: int, now: float = 0.0) -> list[int]:
    return [asked for number in numbers for asked in losses.arrived(number, now)]


def test_what_was_overtaken_is_asked_for_once_and_at_once() -> None:
    losses = Losses()
    assert arrived(losses, 10, 11, 14) == [12, 13]
    assert arrived(losses, 15, 17) == [16]
    assert losses.missing == 3
    assert arrived(losses, 13) == []
    assert losses.missing == 2


def test_it_is_asked_for_again_after_a_round_trip_and_given_up_at_last() -> None:
    losses = Losses()
    arrived(losses, 1, 3)
    assert losses.wait(0.0) == losses.retry == 1.5 * FIRST_RTT
    assert losses.due(0.14) == ([], False)
    assert losses.due(0.16) == ([2], False)
    arrived(losses, 4, now=0.17)
    assert losses.due(0.17) == ([], False)
    assert losses.due(0.32) == ([2], False)
    arrived(losses, 5, now=0.4)
    assert losses.due(losses.patience) == ([], True)
    losses.forget(3)
    assert losses.wait(1.0) is None
    assert losses.due(1.0) == ([], False)


def test_answers_tell_the_round_trip() -> None:
    losses = Losses()
    for number in range(0, 200, 2):
        arrived(losses, number, now=number)
        arrived(losses, number - 1, now=number + 0.004)
    assert abs(losses.rtt - 0.004) < 0.001
    assert losses.retry == RETRY[0]
    assert losses.patience == PATIENCE[0]


def test_a_round_trip_that_grows_is_noticed() -> None:
    losses = Losses()
    for number in range(0, 200, 2):
        arrived(losses, number, now=number)
        losses.due(number + losses.retry)
        arrived(losses, number - 1, now=number + 0.3)
    assert abs(losses.rtt - 0.3) < 0.01
    assert losses.retry == RETRY[1], "and yet a lost request is noticed"


def test_a_long_round_trip_gets_longer_patience_up_to_a_limit() -> None:
    losses = Losses()
    losses.rtt = 3.0
    assert losses.patience == PATIENCE[1]


def test_more_than_a_sender_keeps_is_given_up_at_once() -> None:
    losses = Losses()
    assert len(arrived(losses, 0, MOST + 1)) == MOST
    assert losses.due(0.0) == ([], False)
    assert arrived(losses, 2 * MOST) == []
    assert losses.wait(0.0) == 0.0
    assert losses.due(0.0) == ([], True)
    losses.forget(2 * MOST)
    assert losses.missing == 0


def test_a_silence_of_the_whole_network_is_no_reason_to_give_up() -> None:
    losses = Losses()
    arrived(losses, 1, 3)
    assert losses.due(5.0) == ([2], False)
    assert arrived(losses, 4, now=5.0) == []
    assert losses.due(5.01)[1] is False, "the answers are on their way"
    arrived(losses, 5, now=5.2)
    assert losses.due(5.3) == ([], True)


def test_a_sender_that_has_stopped_is_not_asked_for_ever() -> None:
    losses = Losses()
    arrived(losses, 1, 3)
    requests, now = 0, 0.0
    while (wait := losses.wait(now)) is not None and now < 60:
        now += wait
        requests += len(losses.due(now)[0])
    assert now < QUIET + RETRY[1]
    assert requests <= QUIET / losses.retry + 1
    arrived(losses, 4, now=60)
    assert losses.wait(60) is not None, "it has begun again"


def test_answers_to_many_requests_tell_no_round_trip() -> None:
    losses = Losses()
    arrived(losses, 0, 100)
    arrived(losses, *range(1, 80), now=0.5)
    assert losses.rtt == FIRST_RTT


def test_what_is_given_up_is_forgotten_and_the_rest_is_not() -> None:
    losses = Losses()
    arrived(losses, 1, 3, 5)
    losses.forget(3)
    assert losses.missing == 1
    assert losses.due(0.2) == ([4], False)


@given(st.lists(st.tuples(st.integers(-20, 40), st.floats(0, 0.2)), max_size=200))
def test_missing_is_bounded_and_nothing_is_asked_for_in_vain(steps: list[tuple[int, float]]) -> None:
    losses, now, came, highest, waiting = Losses(), 0.0, {1000}, 1000, set()
    losses.arrived(1000, now)
    for step, later in steps:
        now += later
        number = max(1001, highest + step)
        asked = losses.arrived(number, now)
        waiting |= set(range(highest + 1, number))
        assert asked == (list(range(highest + 1, number)) if len(waiting) <= MOST else [])
        waiting.discard(number)
        came.add(number)
        highest = max(highest, number)
        again, hopeless = losses.due(now)
        assert set(again) <= waiting and not set(again) & came
        if hopeless:
            losses.forget(min(waiting) + 1)
            waiting.discard(min(waiting))
        assert losses.missing == len(waiting)
        assert (losses.wait(now) is None) == (not waiting)
