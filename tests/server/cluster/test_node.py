"""The invariant of a cluster, by cases: pure nodes and the real ledger."""

from __future__ import annotations

import tracemalloc

import pytest

from peer.signaling.messages import Join
from server.cluster.batch_queue import MAX_MESSAGES, BatchQueue
from server.cluster.messages import Deliver, Entry
from server.cluster.node import InboxError, Node
from tests.redis_server import RedisServer

from .world import CONFIG, LEASE, World


@pytest.fixture
def world(ledger_redis: RedisServer) -> World:
    return World(ledger_redis.client())


def test_node_reports_limit_seats_and_deadline() -> None:
    node: Node[str] = Node("n.1", CONFIG)
    node.max_seats = 5
    assert (node.max_seats, len(node), node.deadline, node.is_drained) == (5, 0, None, True)
    assert node.join("conn-a", Join("a"), 0.0) == [] and node.deadline == CONFIG.takeover_ping + 1.0
    ticket = node._state.claims["conn-a"].join.ticket
    node.process(Entry(1, f"joined / a {ticket} -".encode(), b"a", b"-"), 0.0)
    assert (len(node), node.name_of("conn-a"), node.room_of("conn-a")) == (1, "a", "")


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry(2, b"entered 0", None, None), "entry 2 of the inbox came after 0"),
        (Entry(1, b"nonsense", None, None), "entry 1 of the inbox is malformed: b'nonsense'"),
    ],
)
def test_unexpected_inbox_entry_raises(entry: Entry, reason: str) -> None:
    node: Node[str] = Node("n.1", CONFIG)
    with pytest.raises(InboxError, match=reason):
        node.process(entry, 0.0)


def test_join_gives_a_list_and_notices_at_every_node(world: World) -> None:
    a, b, c = (world.join(member, id) for member, id in zip(world.members, "abc", strict=True))
    world.settle()
    assert world.views == {a: {"b", "c"}, b: {"a", "c"}, c: {"a", "b"}}
    world.end(b, clean=True)
    world.settle()
    assert world.views == {a: {"c"}, c: {"a"}}
    world.check()


def test_messages_within_one_node_need_no_ledger(world: World) -> None:
    first = world.members[0]
    a, b = world.join(first, "a"), world.join(first, "b")
    world.settle()
    world.send(a, "b")
    world.send(a)
    assert len(world.received[b]) == 2 and not first.node.outgoing


def test_message_to_another_node_arrives(world: World) -> None:
    a, b, c = (world.join(member, id) for member, id in zip(world.members, "abc", strict=True))
    world.settle()
    world.send(a, "b")
    world.send(a)
    world.settle()
    assert [len(world.received[conn]) for conn in (a, b, c)] == [0, 2, 1]


def test_owner_moves_its_seat_to_another_node_unnoticed(world: World) -> None:
    one, two, three = world.members
    a, b = world.join(one, "a", key="k"), world.join(three, "b")
    world.settle()
    moved = world.join(two, "a", key="k")
    world.settle()
    assert world.closed == {a: 4001} and world.views == {moved: {"b"}, b: {"a"}}
    world.send(b, "a")
    world.settle()
    assert len(world.received[moved]) == 1
    world.check()


def test_queued_messages_are_handed_over_before_later_ones(world: World) -> None:
    one, two, three = world.members
    a, b, local = world.join(one, "a", key="k"), world.join(three, "b"), world.join(one, "l")
    world.settle()
    world.end(a, clean=False)
    sent = [world.send(b, "a"), world.send(local, "a")]
    world.settle()
    back = world.join(two, "a", key="k")
    while world.send_batch(two):
        pass
    sent += [world.send(b, "a"), world.send(local, "a")]
    world.send_batch(three)
    world.read_inbox(two)
    assert back not in world.views, "admitted before the old node has handed over"
    world.settle()
    assert sorted(body["n"] for body in world.received[back]) == sent  # each sender's order is checked on arrival
    world.check()


def test_messages_to_a_peer_that_moves_here_are_not_overtaken(world: World) -> None:
    one, two, _ = world.members
    a, b = world.join(one, "a", key="k"), world.join(two, "b", key="k")
    world.settle()
    world.send(a, "b")  # queued at node one
    here = world.join(one, "b", key="k")
    batch = one.node.next_batch()
    assert batch is not None and batch.operations == 2
    world.settle()
    world.send(a, "b")
    assert len(world.received[here]) + len(world.received[b]) == 2
    world.check()


def test_late_messages_of_the_old_node_overtake_nothing(world: World) -> None:
    one, two, three = world.members
    world.join(one, "a", key="k")
    b = world.join(three, "b")
    world.settle()
    a = next(conn for conn, (_, id, _) in world.identity.items() if id == "a")
    world.send(a, "b")  # and node one hangs
    moved = world.join(two, "a", key="k")
    world.settle_without(one)
    assert moved not in world.views
    world.advance(1.5, frozen=[one])
    world.settle_without(one)
    sent = world.send(moved, "b")
    world.settle_without(one)
    world.settle()
    assert [body["n"] for body in world.received[b]] == [sent]
    world.check()


def test_live_holder_at_another_node_keeps_its_id(world: World) -> None:
    one, two, _ = world.members
    a = world.join(one, "a", key="k")
    world.settle()
    late = world.join(two, "a", key="other")
    world.settle()
    assert world.closed == {late: 4409} and (late, "id-taken") in world.errors and a in world.views


def test_silent_holder_at_another_node_loses_its_id(world: World) -> None:
    one, two, three = world.members
    a, b = world.join(one, "a"), world.join(three, "b")
    world.settle()
    new = world.join(two, "a")
    for member in (two, one):
        world.send_batch(member)
        world.read_inbox(member)
    world.pinged.clear()  # it is pinged, and does not answer
    world.advance(2.5)
    world.settle()
    assert world.closed == {a: 4001} and world.views == {new: {"b"}, b: {"a"}}


def test_claim_without_a_key_gets_the_id_of_a_dead_node(world: World) -> None:
    one, two, three = world.members
    world.join(one, "a")
    b = world.join(three, "b")
    world.settle()
    world.kill(one)
    new = world.join(two, "a")
    world.settle()
    assert new not in world.views
    world.advance(3.5)
    world.settle()
    assert world.views == {new: {"b"}, b: {"a"}}


def test_killed_node_peers_leave_after_the_lease(world: World) -> None:
    one, two, _ = world.members
    world.join(one, "a", key="k")
    b = world.join(two, "b")
    world.settle()
    world.kill(one)
    world.advance(LEASE - 0.5)
    world.settle()
    assert world.views == {b: {"a"}}
    world.advance(1.5)
    world.settle()
    assert world.views == {b: set()}
    world.check()


def test_killed_node_returning_peer_never_left(world: World) -> None:
    one, two, three = world.members
    world.join(one, "a", key="k")
    b = world.join(two, "b")
    world.settle()
    world.kill(one)
    back = world.join(three, "a", key="k")
    world.wait_out()
    assert world.views == {b: {"a"}, back: {"b"}}
    world.check()


def test_ledger_outage_ends_no_lease(world: World) -> None:
    for member, id in zip(world.members, "abc", strict=True):
        world.join(member, id)
    world.settle()
    world.now += 3600
    for member in world.members:
        world.send_batch(member, empty=True)
    world.settle()
    assert [member.registrations for member in world.members] == [1, 1, 1]


@pytest.mark.parametrize("empty", [True, False])
def test_restarted_redis_is_filled_without_notices(world: World, empty: bool) -> None:
    one, two, _three = world.members
    a, b, c = (world.join(member, id, key=id) for member, id in zip(world.members, "abc", strict=True))
    world.settle()
    before = {conn: list(world.received[conn]) for conn in (a, b, c)}
    world.send(a, "c")  # queued during the restart
    world.restart(empty=empty)
    views = {conn: set(view) for conn, view in world.views.items()}
    for member in (one, two):
        world.send_batch(member)
        world.read_inbox(member)
    assert world.views == views
    d = world.join(one, "d")
    world.settle()
    assert world.views == {a: {"b", "c", "d"}, b: {"a", "c", "d"}, c: {"a", "b", "d"}, d: {"a", "b", "c"}}
    assert [body["by"] for body in world.received[c][len(before[c]) :]] == [a]
    world.check()


def test_peer_missing_after_settling_is_reported_as_gone(world: World) -> None:
    one, two, three = world.members
    a, b = world.join(one, "a"), world.join(two, "b")
    world.join(three, "c")
    world.settle()
    world.kill(three)
    world.restart()
    world.settle()
    world.advance(2.5)
    world.settle()
    assert world.views == {a: {"b", "c"}, b: {"a", "c"}}
    world.advance(2.5)
    world.settle()
    assert world.views == {a: {"b"}, b: {"a"}}
    world.check()


def test_hung_node_resumes_seats_that_are_still_free(world: World) -> None:
    one, two, _three = world.members
    a, taken = world.join(one, "a", key="k"), world.join(one, "t")
    b = world.join(two, "b")
    world.settle()
    world.advance(LEASE + 2, frozen=[one])
    world.settle_without(one)
    assert world.views[b] == set()
    t = world.join(two, "t")
    world.settle_without(one)
    world.advance(0.5)
    world.settle()
    assert world.closed == {taken: 4001}
    assert world.views == {a: {"b", "t"}, b: {"a", "t"}, t: {"a", "b"}}
    world.check()


def test_node_that_reads_too_slowly_registers_again(world: World) -> None:
    one, two, _ = world.members
    a, b = world.join(one, "a"), world.join(two, "b")
    world.settle()
    for _ in range(4):
        for _ in range(450):
            world.send(a, "b")
        while world.send_batch(one):
            pass
    name = two.node.name
    world.advance(0.5)
    world.settle()
    assert two.node.name != name and world.views == {a: {"b"}, b: {"a"}}
    world.check()


def test_registration_repeated_twice_leaves_nothing_behind(world: World) -> None:
    one, two, _ = world.members
    world.join(one, "a", key="k")
    world.join(two, "b")
    world.settle()
    world.restart()
    world.send_batch(one, lose=True)  # so it is not known whether it is registered; it takes a third name
    world.settle()
    assert world.redis.smembers("t:nodes") == {member.node.name.encode() for member in world.members}
    world.wait_out(2)
    world.check()


@pytest.mark.parametrize("line", [b"", b"\xff", b"joined", b"joined /", b"entered x", b"hello / a", b"came / a b"])
def test_foreign_inbox_entry_makes_the_node_register_again(world: World, line: bytes) -> None:
    one, two, _ = world.members
    a, b = world.join(one, "a"), world.join(two, "b")
    world.settle()
    world.redis.xadd(f"t:in:{one.node.name}", {"h": line}, id=f"{one.node.entries_read + 1}-0")
    world.settle()
    assert one.registrations == 2 and world.views == {a: {"b"}, b: {"a"}}
    world.check()


def test_batch_repeated_after_a_lost_answer_runs_once(world: World) -> None:
    one, two, _ = world.members
    a, b = world.join(one, "a"), world.join(two, "b")
    world.settle()
    world.send(a, "b")
    world.send_batch(one, lose=True)
    world.settle()
    assert len(world.received[b]) == 1  # and before once: the world checks


def test_messages_expire_without_a_ledger_and_are_answered(world: World) -> None:
    one, two, _ = world.members
    a = world.join(one, "a")
    world.join(two, "b")
    world.settle()
    world.send(a, "b")
    world.now += 4.9
    world.execute(one.node.expire(world.now))
    assert world.errors == []
    world.now += 0.2
    world.execute(one.node.expire(world.now))
    assert world.errors == [(a, "peer-not-found")]


def test_messages_waiting_for_the_ledger_are_bounded(world: World) -> None:
    one, two, _ = world.members
    a = world.join(one, "a")
    world.join(two, "b")
    world.settle()
    for _ in range(3000):
        world.send(a, "b")
    assert (a, "peer-not-found") in world.errors


def test_small_waiting_message_counts_with_its_overhead() -> None:
    outgoing = BatchQueue(5, MAX_MESSAGES)
    tracemalloc.start()
    try:
        count = 0
        while outgoing.add_message(Deliver("/", "a", "1", f"{count:064}", b"x" * 40), 0):
            count += 1
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert MAX_MESSAGES // 2 < held <= MAX_MESSAGES * 1.2 and len(outgoing) == count


def test_queue_stays_small_while_the_ledger_is_away(world: World) -> None:
    one, two, _ = world.members
    b, c = world.join(two, "b"), world.join(one, "c")
    a = world.join(one, "a", key="k")
    world.settle()
    for n in range(200):  # Redis is unreachable for half an hour
        world.send(c, "b")
        world.send(c)
        world.join(one, f"new-{n}")
        world.end(world.join(one, "hasty"), clean=True)
        world.end(a, clean=False)
        a = world.join(one, "a", key="k")
        for _ in range(5):
            world.now += 2
            world.execute(one.node.expire(world.now))
    assert len(one.node.outgoing) <= 2
    assert sum(map(len, (one.node.outgoing._items, one.node.outgoing._held))) <= 4
    world.wait_out()
    assert world.views == {a: {"b", "c"}, b: {"a", "c"}, c: {"a", "b"}}
    world.check()


def test_owner_returning_often_without_a_ledger_keeps_its_seat(world: World) -> None:
    one, two, _ = world.members
    b, a = world.join(two, "b"), world.join(one, "a", key="k")
    world.settle()
    for _ in range(3):
        world.end(a, clean=False)
        a = world.join(one, "a", key="k")
    world.send(a, "b")
    assert len(one.node.outgoing) == 2
    world.settle()
    assert len(world.received[b]) == 1 and world.views == {a: {"b"}, b: {"a"}}
    world.check()
    moved = world.join(two, "a", key="k")
    world.settle()
    assert world.closed[a] == 4001 and world.views == {moved: {"b"}, b: {"a"}}
    world.check()


def test_join_without_a_ledger_times_out(world: World) -> None:
    one = world.members[0]
    a = world.join(one, "a")
    for _ in range(40):
        world.now += 0.25
        world.execute(one.node.expire(world.now))
    assert world.closed == {a: 1013}
    world.settle()
    world.check()
    assert world.ledger() == {}


def test_owner_is_admitted_at_its_node_without_a_ledger(world: World) -> None:
    one, two, _ = world.members
    a, b = world.join(one, "a", key="k"), world.join(two, "b")
    world.settle()
    world.end(a, clean=False)
    back = world.join(one, "a", key="k")
    assert world.views == {back: {"b"}, b: {"a"}}
    world.settle()
    world.check()


def test_stopping_node_entrusts_its_seats_unnoticed(world: World) -> None:
    one, two, three = world.members
    a, old, b = world.join(one, "a", key="k"), world.join(one, "old"), world.join(two, "b")
    world.settle()
    world.views.pop(a)
    world.views.pop(old)
    world.closed |= {a: 1001, old: 1001}
    one.node.drain(world.now)
    sent = [world.send(b, "a")]
    world.settle()
    assert one.node.is_drained and world.views == {b: {"a"}}
    world.members.remove(one)
    sent.append(world.send(b, "a"))
    world.settle()
    back = world.join(three, "a", key="k")
    world.settle()
    assert world.views == {b: {"a"}, back: {"b"}}
    assert [body["n"] for body in world.received[back]] == sent


def test_newer_connection_of_an_owner_gets_the_entrusted_seat(
    ledger_redis: RedisServer,
) -> None:
    world = World(ledger_redis.client(), nodes=2)
    one, two = world.members
    a, b = world.join(one, "a", key="k"), world.join(two, "b")
    world.settle()
    world.views.pop(a)
    world.closed[a] = 1001
    one.node.drain(world.now)
    older = world.join(two, "a", key="k")
    world.send_batch(one)
    world.read_inbox(two)  # it is entrusted with the seat, and has not sent a join for it yet
    newer = world.join(two, "a", key="k")
    world.settle()
    assert world.closed[older] == 4001 and world.views == {newer: {"b"}, b: {"a"}}
    world.check()


def test_ledger_is_empty_when_all_peers_have_gone(world: World) -> None:
    conns = [world.join(member, id, room, key="k") for member, id in zip(world.members, "abc", strict=True)
             for room in ("", "attic")]  # fmt: skip
    world.settle()
    for conn in conns:
        world.end(conn, clean=False)
    world.wait_out()
    world.check()
    assert world.leftovers() == set()
