"""NACK generation: first request at once, retries after an RTT, and the limits after which a packet is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.nack import GIVE_UP_AFTER, INACTIVE_AFTER, INITIAL_RTT, MAX_MISSING, RETRY_INTERVAL, NackGenerator


def add(nacks: NackGenerator, *numbers: int, now: float = 0.0) -> list[int]:
    return [requested for number in numbers for requested in nacks.add(number, now)]


def test_overtaken_packet_is_requested_at_once_and_once() -> None:
    nacks = NackGenerator()
    assert add(nacks, 10, 11, 14) == [12, 13]
    assert add(nacks, 15, 17) == [16]
    assert nacks.missing == 3
    assert add(nacks, 13) == []
    assert nacks.missing == 2


def test_missing_packet_is_retried_and_then_given_up() -> None:
    nacks = NackGenerator()
    add(nacks, 1, 3)
    assert nacks.delay(0.0) == nacks.retry_interval == 1.5 * INITIAL_RTT
    assert nacks.due(0.14) == ([], False)
    assert nacks.due(0.16) == ([2], False)
    add(nacks, 4, now=0.17)
    assert nacks.due(0.17) == ([], False)
    assert nacks.due(0.32) == ([2], False)
    add(nacks, 5, now=0.4)
    assert nacks.due(nacks.give_up_after) == ([], True)
    nacks.discard_below(3)
    assert nacks.delay(1.0) is None
    assert nacks.due(1.0) == ([], False)


def test_retransmissions_measure_the_rtt() -> None:
    nacks = NackGenerator()
    for number in range(0, 200, 2):
        add(nacks, number, now=number)
        add(nacks, number - 1, now=number + 0.004)
    assert abs(nacks.rtt - 0.004) < 0.001
    assert nacks.retry_interval == RETRY_INTERVAL[0]
    assert nacks.give_up_after == GIVE_UP_AFTER[0]


def test_rtt_that_grows_is_measured() -> None:
    nacks = NackGenerator()
    for number in range(0, 200, 2):
        add(nacks, number, now=number)
        nacks.due(number + nacks.retry_interval)
        add(nacks, number - 1, now=number + 0.3)
    assert abs(nacks.rtt - 0.3) < 0.01
    assert nacks.retry_interval == RETRY_INTERVAL[1], "a lost request is still repeated soon"


def test_long_rtt_extends_the_give_up_time_to_its_limit() -> None:
    nacks = NackGenerator()
    nacks.rtt = 3.0
    assert nacks.give_up_after == GIVE_UP_AFTER[1]


def test_too_many_missing_packets_are_given_up_at_once() -> None:
    nacks = NackGenerator()
    assert len(add(nacks, 0, MAX_MISSING + 1)) == MAX_MISSING
    assert nacks.due(0.0) == ([], False)
    assert add(nacks, 2 * MAX_MISSING) == []
    assert nacks.delay(0.0) == 0.0
    assert nacks.due(0.0) == ([], True)
    nacks.discard_below(2 * MAX_MISSING)
    assert nacks.missing == 0


def test_outage_does_not_give_up_missing_packets() -> None:
    nacks = NackGenerator()
    add(nacks, 1, 3)
    assert nacks.due(5.0) == ([2], False)
    assert add(nacks, 4, now=5.0) == []
    assert nacks.due(5.01)[1] is False, "the retransmissions are under way"
    add(nacks, 5, now=5.2)
    assert nacks.due(5.3) == ([], True)


def test_inactive_sender_receives_no_more_requests() -> None:
    nacks = NackGenerator()
    add(nacks, 1, 3)
    requests, now = 0, 0.0
    while (delay := nacks.delay(now)) is not None and now < 60:
        now += delay
        requests += len(nacks.due(now)[0])
    assert now < INACTIVE_AFTER + RETRY_INTERVAL[1]
    assert requests <= INACTIVE_AFTER / nacks.retry_interval + 1
    add(nacks, 4, now=60)
    assert nacks.delay(60) is not None, "it is active again"


def test_retransmissions_of_many_packets_measure_no_rtt() -> None:
    nacks = NackGenerator()
    add(nacks, 0, 100)
    add(nacks, *range(1, 80), now=0.5)
    assert nacks.rtt == INITIAL_RTT


def test_discard_below_keeps_later_missing_packets() -> None:
    nacks = NackGenerator()
    add(nacks, 1, 3, 5)
    nacks.discard_below(3)
    assert nacks.missing == 1
    assert nacks.due(0.2) == ([4], False)


@given(st.lists(st.tuples(st.integers(-20, 40), st.floats(0, 0.2)), max_size=200))
def test_only_missing_packets_are_requested(steps: list[tuple[int, float]]) -> None:
    nacks, now, arrived, highest, missing = NackGenerator(), 0.0, {1000}, 1000, set()
    nacks.add(1000, now)
    for step, later in steps:
        now += later
        number = max(1001, highest + step)
        requested = nacks.add(number, now)
        missing |= set(range(highest + 1, number))
        assert requested == (list(range(highest + 1, number)) if len(missing) <= MAX_MISSING else [])
        missing.discard(number)
        arrived.add(number)
        highest = max(highest, number)
        retries, give_up = nacks.due(now)
        assert set(retries) <= missing and not set(retries) & arrived
        if give_up:
            nacks.discard_below(min(missing) + 1)
            missing.discard(min(missing))
        assert nacks.missing == len(missing)
        assert (nacks.delay(now) is None) == (not missing)
