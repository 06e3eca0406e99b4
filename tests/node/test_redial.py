"""The redial policy: which peers are called, and when."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from peer.events import REASONS, Reason
from peer.node.redial import FIRST_DELAY, MAX_DELAY, Redial


class _NoJitter(random.Random):
    """The middle of each range."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def redial(targets: Iterable[str] | None = ("door",), max_calls: int = 32) -> Redial:
    return Redial(targets, max_calls, _NoJitter())


def test_target_in_the_room_is_called_at_once() -> None:
    policy = redial()
    policy.room_joined(["door", "gate"], 0.0)
    assert policy.due(0.0) == ["door"]
    assert policy.due(0.0) == []


def test_all_targets_present_and_later_peers() -> None:
    policy = redial(None)
    policy.room_joined(["gate", "door"], 0.0)
    assert policy.due(0.0) == ["door", "gate"]
    policy.peer_joined("lobby", 5.0)
    assert policy.due(5.0) == ["lobby"]


def test_absent_target_is_not_called() -> None:
    policy = redial()
    policy.room_joined([], 0.0)
    assert policy.deadline is None
    policy.peer_joined("door", 1.0)
    policy.peer_left("door")
    assert policy.due(2.0) == []


def test_target_with_an_incoming_call_is_not_called() -> None:
    policy = redial()
    policy.call_started("door")
    policy.room_joined(["door"], 0.0)
    assert policy.due(100.0) == []
    policy = redial()
    policy.room_joined(["door"], 0.0)
    policy.call_started("door")
    assert policy.due(100.0) == []


def test_lost_call_is_retried_with_growing_delay() -> None:
    policy = redial()
    policy.room_joined(["door"], 0.0)
    now, waits = 0.0, []
    for _ in range(9):
        assert policy.due(now) == ["door"]
        policy.call_started("door")
        policy.call_ended("door", "no-answer", now)
        deadline = policy.deadline
        assert deadline is not None
        assert policy.due(deadline - 0.001) == []
        waits.append(deadline - now)
        now = deadline
    assert waits == [FIRST_DELAY, 2, 4, 8, 16, 32, MAX_DELAY, MAX_DELAY, MAX_DELAY]


def test_stable_call_resets_the_delay() -> None:
    policy = redial()
    policy.room_joined(["door"], 0.0)
    for now in (0.0, 100.0, 200.0):
        policy.due(now)
        policy.call_ended("door", "no-answer", now)
    policy.due(300.0)
    policy.call_connected("door", 300.0)
    policy.call_ended("door", "transport-failed", 400.0)
    assert policy.deadline == 400.0 + FIRST_DELAY


@pytest.mark.parametrize("reason", ["hang-up", "remote-hang-up"])
def test_hang_up_stops_redial_until_the_peer_comes_back(reason: Reason) -> None:
    policy = redial()
    policy.room_joined(["door"], 0.0)
    policy.due(0.0)
    policy.call_connected("door", 0.0)
    policy.call_ended("door", reason, 30.0)
    assert policy.deadline is None
    policy.room_joined(["door"], 40.0)  # the relay restarted; the peer did not leave
    assert policy.deadline is None
    policy.peer_left("door")
    policy.peer_joined("door", 50.0)
    assert policy.due(50.0) == ["door"]


def test_declined_call_is_retried_after_a_minute() -> None:
    policy = redial()
    policy.room_joined(["door"], 0.0)
    policy.due(0.0)
    policy.call_ended("door", "declined", 0.0)
    assert policy.deadline == MAX_DELAY


def test_peer_that_left_is_called_when_it_comes_back() -> None:
    policy = redial()
    policy.room_joined(["door"], 0.0)
    policy.due(0.0)
    policy.call_connected("door", 0.0)
    policy.peer_left("door")
    policy.call_ended("door", "peer-left", 5.0)
    assert policy.deadline is None
    policy.peer_joined("door", 9.0)
    assert policy.due(9.0) == ["door"]


def test_peer_that_rejoins_during_a_call_is_not_called() -> None:
    policy = redial()
    policy.room_joined(["door"], 0.0)
    policy.due(0.0)
    policy.call_connected("door", 0.0)
    policy.peer_left("door")
    policy.peer_joined("door", 3.0)
    assert policy.due(3.0) == []
    policy.call_ended("door", "transport-failed", 60.0)
    assert policy.deadline == 60.0 + FIRST_DELAY


def test_jitter_differs_between_nodes() -> None:
    deadlines = set()
    for seed in range(20):
        policy = Redial(["door"], 32, random.Random(seed))
        policy.room_joined(["door"], 0.0)
        policy.due(0.0)
        policy.call_ended("door", "timeout", 0.0)
        deadlines.add(policy.deadline)
    assert len(deadlines) == 20


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_a_redial_rule(reason: Reason) -> None:
    policy = redial()
    policy.room_joined(["door"], 0.0)
    policy.due(0.0)
    policy.call_started("door")
    policy.call_ended("door", reason, 1.0)
    assert policy.deadline is None or policy.deadline > 1.0


def test_invalid_id_is_not_called() -> None:
    policy = redial(None)
    policy.room_joined(["my phone", "Bj\u00f6rn", "door", ""], 0.0)
    policy.peer_joined("x" * 65, 0.0)
    assert policy.due(0.0) == ["door"]
    assert policy.deadline is None


def test_targets_beyond_max_calls_wait_longest_due_first() -> None:
    policy = redial(None, max_calls=3)
    policy.call_started("guest")  # an incoming call
    policy.peer_joined("a", 0.0)
    policy.room_joined(["a", "b", "c", "d", "guest"], 1.0)
    assert policy.due(1.0) == ["a", "b"]
    assert [policy.deadline] == [None]
    assert policy.due(2.0) == []
    policy.call_ended("guest", "hang-up", 3.0)
    assert policy.deadline == 1.0
    assert policy.due(3.0) == ["c"]
    policy.call_ended("a", "no-answer", 10.0)  # d has waited for longer than a
    assert policy.due(100.0) == ["d"]
    policy.call_ended("b", "peer-left", 101.0)
    assert policy.due(102.0) == ["a"]
