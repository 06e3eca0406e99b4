"""Restarted processes in a cluster: pure nodes and the real ledger (docs/protocol.md, server rule 3)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.redis_server import RedisServer

from .world import CONFIG, World


@pytest.fixture
def world(ledger_redis: RedisServer) -> World:
    return World(ledger_redis.client())


def test_instances_are_in_lists_and_notices_at_every_node(world: World) -> None:
    for number, id in enumerate("abcdef"):  # the second client at a node gets no list from the ledger
        world.join(world.members[number % 3], id, instance=None if id == "b" else f"{id} \U0001f600")
        world.settle()
    world.check()
    assert {instance for view in world.instances.values() for instance in view.values()} == {
        None,
        *(f"{id} \U0001f600" for id in "acdef"),
    }


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("crashed", [False, True])
@pytest.mark.parametrize(("before", "after"), [("1", "2"), ("1", None), (None, "2")])
def test_other_process_of_an_owner_leaves_and_joins(
    world: World, where: int, crashed: bool, before: str | None, after: str | None
) -> None:
    """At the node of the seat or at another one, while the old connection lasts or after it has broken."""
    a = world.join(world.members[0], "a", key="k", instance=before)
    others = [world.join(member, id) for member, id in zip(world.members, "bcd", strict=True)]
    world.settle()
    world.notices.clear()
    if crashed:
        world.end(a, clean=False)
        world.send(others[0], "a")  # for the old process
        world.settle()
    new = world.join(world.members[where], "a", key="k", instance=after)
    world.settle()
    assert world.closed == {a: 1000 if crashed else 4001} and new in world.views
    assert [world.notices[conn] for conn in others] == [["-a", "+a"]] * 3
    assert not world.received[new], "messages for the old process are discarded"
    world.check()
    world.send(others[2], "a")
    world.settle()
    assert len(world.received[new]) == 1


@pytest.mark.parametrize("where", [0, 1])
def test_same_process_of_an_owner_returns_unnoticed(world: World, where: int) -> None:
    a, b = world.join(world.members[0], "a", key="k", instance="1"), world.join(world.members[2], "b")
    world.settle()
    world.notices.clear()
    world.end(a, clean=False)
    world.send(b, "a")
    world.settle()
    back = world.join(world.members[where], "a", key="k", instance="1")
    world.settle()
    assert not world.notices and len(world.received[back]) == 1
    world.check()


def test_two_processes_that_fight_for_a_seat_leave_one(world: World) -> None:
    one, two, three = world.members
    b = world.join(three, "b")
    first = [world.join(member, "a", key="k", instance=str(n)) for n, member in enumerate([one, two, one, two])]
    world.settle()
    assert sorted(world.closed) == first[:3] and world.views.keys() == {b, first[3]}
    world.check()


def test_old_process_that_returns_at_the_same_time_yields(world: World) -> None:
    """Node one admits it at once, and the ledger has given its seat away."""
    one, two, three = world.members
    a, b = world.join(one, "a", key="k", instance="1"), world.join(three, "b")
    world.settle()
    new = world.join(two, "a", key="k", instance="2")
    world.send_batch(two)
    world.end(a, clean=False)
    back = world.join(one, "a", key="k", instance="1")
    assert back in world.views
    world.settle()
    assert world.closed == {a: 1000, new: 4001} and world.views == {back: {"b"}, b: {"a"}}, "the last join wins"
    world.check()


def test_other_process_waits_for_the_ledger(world: World) -> None:
    one, two, _ = world.members
    a, b = world.join(one, "a", key="k", instance="1"), world.join(two, "b")
    world.settle()
    new = world.join(one, "a", key="k", instance="2")
    assert world.views == {a: {"b"}, b: {"a"}}
    world.settle()
    assert world.views == {new: {"b"}, b: {"a"}}
    world.check()


@pytest.mark.parametrize("empty", [True, False])
def test_instances_survive_a_restart_of_redis(world: World, empty: bool) -> None:
    one, two, three = world.members
    a, b = world.join(one, "a", key="k", instance="1"), world.join(three, "b", instance="x")
    world.settle()
    world.notices.clear()
    world.restart(empty=empty)
    world.settle()
    assert not world.notices
    world.check()
    new = world.join(two, "a", key="k", instance="2")
    world.settle()
    assert world.closed == {a: 4001} and world.notices[b] == ["-a", "+a"] and new in world.views
    world.check()


def test_other_process_that_joins_an_empty_ledger_is_noticed(world: World) -> None:
    """After a restart of Redis, node two registers before node one has claimed the seat of the old process again."""
    one, two, three = world.members
    a, b = world.join(one, "a", key="k", instance="1"), world.join(three, "b")
    world.settle()
    world.notices.clear()
    world.restart()
    new = world.join(two, "a", key="k", instance="2")
    world.settle_without(one)
    world.settle()
    assert world.closed == {a: 4001} and world.notices[b] == ["-a", "+a"] and new in world.views
    world.check()


@pytest.mark.parametrize("instance", ["1", "2"])
def test_entrusted_seat_is_for_the_process_that_held_it(world: World, instance: str) -> None:
    one, two, three = world.members
    a, b, c = world.join(one, "a", key="k", instance="1"), world.join(two, "b"), world.join(three, "c")
    world.settle()
    world.notices.clear()
    world.views.pop(a)
    world.closed[a] = 1001
    one.node.drain(world.now)
    world.send(b, "a")
    world.settle()
    world.members.remove(one)
    back = world.join(three, "a", key="k", instance=instance)
    world.settle()
    same = instance == "1"
    assert len(world.received[back]) == (1 if same else 0)
    assert [world.notices[conn] for conn in (b, c)] == [[] if same else ["-a", "+a"]] * 2
    world.check()


def test_other_process_of_an_owner_may_join_where_all_is_full(ledger_redis: RedisServer) -> None:
    world = World(ledger_redis.client(), replace(CONFIG, max_room_peers=1, max_rooms=1), nodes=1)
    (one,) = world.members
    one.node.max_seats = 1
    a = world.join(one, "a", key="k", instance="1")
    world.settle()
    new = world.join(one, "a", key="k", instance="2")
    world.settle()
    assert world.closed == {a: 4001} and world.views == {new: set()}
    world.check()


def test_list_of_a_large_room_has_all_instances(ledger_redis: RedisServer) -> None:
    """More peers than the ledger reads in one command."""
    world = World(ledger_redis.client(), nodes=2)
    one, two = world.members
    world.join(one, "a", instance="x")
    world.settle()
    node, ticket = world.ledger()["", "a"]
    world.redis.hset("t:seats:/", mapping={f"p{n}": f"{node} {ticket} - -" for n in range(2500)})
    world.redis.hset("t:instances:/", mapping={f"p{n}": f"{node} {ticket} =i{n}" for n in range(2500)})
    late = world.join(two, "late")
    world.settle()
    assert world.instances[late] == {"a": "x"} | {f"p{n}": f"i{n}" for n in range(2500)}
