"""Limits of a cluster: peers per room across nodes, rooms and seats per node, queues."""

from __future__ import annotations

from dataclasses import replace

from tests.redis_server import RedisServer

from .world import CONFIG, World


def test_owner_returning_to_a_full_room_is_rejected(ledger_redis: RedisServer) -> None:
    world = World(ledger_redis.client(), replace(CONFIG, max_room_peers=1), nodes=2)
    one, two = world.members
    a = world.join(one, "a", key="k")
    world.settle()
    other = world.join(two, "a")  # joins twice, while node one hangs
    world.advance(3.5, frozen=[one])
    world.settle_without(one)
    world.end(other, clean=True)
    z = world.join(two, "z")
    world.settle_without(one)
    world.end(a, clean=False)
    back = world.join(one, "a", key="k")
    world.send_batch(one)
    world.settle()
    assert world.closed[back] == 4400 and (back, "room-full") in world.errors and world.views == {z: set()}
    world.check()


def test_peers_per_room_are_limited_across_nodes(ledger_redis: RedisServer) -> None:
    world = World(ledger_redis.client(), replace(CONFIG, max_room_peers=2))
    a, b, c = (world.join(member, id) for member, id in zip(world.members, "abc", strict=True))
    world.settle()
    assert world.views == {a: {"b"}, b: {"a"}} and (c, "room-full") in world.errors
    world.check()


def test_rooms_and_seats_are_limited_per_node(ledger_redis: RedisServer) -> None:
    world = World(ledger_redis.client(), replace(CONFIG, max_rooms=1))
    one, two, _ = world.members
    one.node.max_seats = 2
    a, attic = world.join(one, "a"), world.join(one, "a", "attic")
    b, c = world.join(one, "b"), world.join(one, "c")
    d = world.join(two, "a", "attic")
    world.settle()
    assert world.views == {a: {"b"}, b: {"a"}, d: set()}
    assert world.errors == [(attic, "room-full"), (c, "room-full")] and world.closed == {attic: 4400, c: 4400}


def test_join_that_timed_out_frees_its_room(ledger_redis: RedisServer) -> None:
    world = World(ledger_redis.client(), replace(CONFIG, max_rooms=1))
    one = world.members[0]
    gone, left = world.join(one, "a", "attic"), world.join(one, "b", "attic")
    world.end(left, clean=True)
    refused = world.join(one, "c", "hall")
    for _ in range(40):
        world.now += 0.25
        world.execute(one.node.expire(world.now))
    assert world.closed == {gone: 1013, left: 1000, refused: 4400} and not one.node._seats._claims_per_room
    c = world.join(one, "c", "hall")
    world.settle()
    assert world.views == {c: set()} and not one.node._seats._claims_per_room


def test_queues_of_all_seats_are_bounded(ledger_redis: RedisServer) -> None:
    world = World(ledger_redis.client(), replace(CONFIG, max_seat_queues=400))
    one, two, _ = world.members
    b = world.join(two, "b")
    for id in "ac":
        conn = world.join(one, id, key="k")
        world.settle()
        world.end(conn, clean=False)
    for n in range(8):
        world.send(b, "ac"[n % 2])
    world.settle()
    assert 0 < one.node.queued <= 400 and (b, "peer-not-found") in world.errors
    world.wait_out()
    world.check()
