"""Whom an unattended node calls, and when."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from peer.events import REASONS, Reason
from peer.node.redial import FIRST, LONGEST, Redial


class _Middle(random.Random):
    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


def redial(wanted: Iterable[str] | None = ("door",), room: int = 32) -> Redial:
    return Redial(wanted, room, _Middle())


def test_who_is_here_is_called_at_once() -> None:
    policy = redial()
    policy.here(["door", "gate"], 0.0)
    assert policy.due(0.0) == ["door"]
    assert policy.due(0.0) == []


def test_all_means_everybody_now_and_later() -> None:
    policy = redial(None)
    policy.here(["gate", "door"], 0.0)
    assert policy.due(0.0) == ["door", "gate"]
    policy.joined("lobby", 5.0)
    assert policy.due(5.0) == ["lobby"]


def test_who_is_not_here_is_not_called() -> None:
    policy = redial()
    policy.here([], 0.0)
    assert policy.deadline is None
    policy.joined("door", 1.0)
    policy.left("door")
    assert policy.due(2.0) == []


def test_a_call_they_began_is_not_disturbed() -> None:
    policy = redial()
    policy.began("door")
    policy.here(["door"], 0.0)
    assert policy.due(100.0) == []
    policy = redial()
    policy.here(["door"], 0.0)
    policy.began("door")
    assert policy.due(100.0) == []


def test_a_lost_call_is_made_again_ever_more_slowly() -> None:
    policy = redial()
    policy.here(["door"], 0.0)
    now, waits = 0.0, []
    for _ in range(9):
        assert policy.due(now) == ["door"]
        policy.began("door")
        policy.ended("door", "no-answer", now)
        deadline = policy.deadline
        assert deadline is not None
        assert policy.due(deadline - 0.001) == []
        waits.append(deadline - now)
        now = deadline
    assert waits == [FIRST, 2, 4, 8, 16, 32, LONGEST, LONGEST, LONGEST]


def test_a_call_that_was_good_starts_the_count_anew() -> None:
    policy = redial()
    policy.here(["door"], 0.0)
    for now in (0.0, 100.0, 200.0):
        policy.due(now)
        policy.ended("door", "no-answer", now)
    policy.due(300.0)
    policy.connected("door", 300.0)
    policy.ended("door", "transport-failed", 400.0)
    assert policy.deadline == 400.0 + FIRST


@pytest.mark.parametrize("reason", ["hang-up", "remote-hang-up"])
def test_a_hang_up_was_meant_until_the_peer_comes_back(reason: Reason) -> None:
    policy = redial()
    policy.here(["door"], 0.0)
    policy.due(0.0)
    policy.connected("door", 0.0)
    policy.ended("door", reason, 30.0)
    assert policy.deadline is None
    policy.here(["door"], 40.0)  # the relay was away; the peer was not
    assert policy.deadline is None
    policy.left("door")
    policy.joined("door", 50.0)
    assert policy.due(50.0) == ["door"]


def test_a_peer_that_declines_is_asked_once_a_minute() -> None:
    policy = redial()
    policy.here(["door"], 0.0)
    policy.due(0.0)
    policy.ended("door", "declined", 0.0)
    assert policy.deadline == LONGEST


def test_a_peer_that_left_is_called_when_it_is_back() -> None:
    policy = redial()
    policy.here(["door"], 0.0)
    policy.due(0.0)
    policy.connected("door", 0.0)
    policy.left("door")
    policy.ended("door", "peer-left", 5.0)
    assert policy.deadline is None
    policy.joined("door", 9.0)
    assert policy.due(9.0) == ["door"]


def test_a_call_that_lives_on_while_its_peer_rejoins_is_not_disturbed() -> None:
    policy = redial()
    policy.here(["door"], 0.0)
    policy.due(0.0)
    policy.connected("door", 0.0)
    policy.left("door")
    policy.joined("door", 3.0)
    assert policy.due(3.0) == []
    policy.ended("door", "transport-failed", 60.0)
    assert policy.deadline == 60.0 + FIRST


def test_two_nodes_do_not_keep_step() -> None:
    deadlines = set()
    for seed in range(20):
        policy = Redial(["door"], 32, random.Random(seed))
        policy.here(["door"], 0.0)
        policy.due(0.0)
        policy.ended("door", "timeout", 0.0)
        deadlines.add(policy.deadline)
    assert len(deadlines) == 20


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_an_answer(reason: Reason) -> None:
    policy = redial()
    policy.here(["door"], 0.0)
    policy.due(0.0)
    policy.began("door")
    policy.ended("door", reason, 1.0)
    assert policy.deadline is None or policy.deadline > 1.0


def test_a_name_that_is_no_id_is_not_called() -> None:
    policy = redial(None)
    policy.here(["my phone", "Bj\u00f6rn", "door", ""], 0.0)
    policy.joined("x" * 65, 0.0)
    assert policy.due(0.0) == ["door"]
    assert policy.deadline is None


def test_who_finds_no_room_waits_its_turn() -> None:
    policy = redial(None, room=3)
    policy.began("guest")  # it called us
    policy.joined("a", 0.0)
    policy.here(["a", "b", "c", "d", "guest"], 1.0)
    assert policy.due(1.0) == ["a", "b"]
    assert [policy.deadline] == [None]
    assert policy.due(2.0) == []
    policy.ended("guest", "hang-up", 3.0)
    assert policy.deadline == 1.0
    assert policy.due(3.0) == ["c"]
    policy.ended("a", "no-answer", 10.0)  # d has waited for longer than a
    assert policy.due(100.0) == ["d"]
    policy.ended("b", "peer-left", 101.0)
    assert policy.due(102.0) == ["a"]
