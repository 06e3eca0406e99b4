"""The table in ``rooms``, case by case. ``test_rooms_life`` checks any sequence of events."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import server.rooms.rooms
from peer.signaling.messages import Envelope, Join
from server.rooms.rooms import MAX_CLAIMS, Admit, Close, Ping, Rooms, Send


def rooms(*, grace: float = 5.0, takeover_ping: float = 2.0, queue: int = 1000) -> Rooms[str]:
    return Rooms(grace=grace, takeover_ping=takeover_ping, max_seat_queue=queue)


def read(commands: Iterable[Any]) -> list[Any]:
    """Commands as short tuples: texts as objects, without sends that have no recipient."""
    out: list[Any] = []
    for command in commands:
        match command:
            case Send(to, text):
                if to:
                    out.append(("send", sorted(to), json.loads(text)))
            case Admit(conn, peers, instances):
                out += [("admit", conn), listed(conn, *peers, instances=dict(instances))]
            case Ping(conn):
                out.append(("ask", conn))
            case Close(conn, code, _):
                out.append(("close", conn, code))
    return out


def listed(conn: str, *peers: str, instances: dict[str, str] | None = None) -> tuple[str, list[str], dict[str, Any]]:
    body = {"type": "peer-list", "peers": list(peers)}
    return ("send", [conn], body | ({"instances": instances} if instances else {}))


def notice(kind: str, peer: str, *to: str, instance: str | None = None) -> tuple[str, list[str], dict[str, Any]]:
    body = {"type": f"peer-{kind}", "peerId": peer}
    return ("send", sorted(to), body | ({"instance": instance} if instance else {}))


def codes(commands: Iterable[Any]) -> list[tuple[Any, str]]:
    return [(entry[1], entry[2]["code"]) for entry in read(commands) if entry[0] == "send" and "code" in entry[2]]


def test_join_gives_the_list_and_notices_in_one_step() -> None:
    room = rooms()
    assert read(room.join("1", Join("a"), 0)) == [("admit", "1"), listed("1")]
    assert read(room.join("2", Join("b"), 0)) == [("admit", "2"), listed("2", "a"), notice("joined", "b", "1")]


def test_peers_of_different_rooms_are_separate() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    assert read(room.join("2", Join("a", "attic"), 0)) == [("admit", "2"), listed("2")]
    assert codes(room.route("2", Envelope("offer", "a", "b"), b"{}")) == [(["2"], "peer-not-found")]
    assert read(room.route("1", Envelope("hello", "a", None), b"{}")) == []
    assert read(room.leave("1", 0)) == []


def test_empty_room_is_removed() -> None:
    room = rooms()
    room.join("1", Join("a", "attic"), 0)
    assert room.rooms() == ["attic"]
    room.leave("1", 0)
    assert room.rooms() == [] and len(room) == 0


def test_same_key_takes_the_seat_at_once_unnoticed() -> None:
    room = rooms()
    room.join("1", Join("a", key="k"), 0)
    room.join("2", Join("b"), 0)
    assert read(room.join("3", Join("a", key="k"), 1)) == [("close", "1", 4001), ("admit", "3"), listed("3", "b")]
    assert room.drop("1", 1) == []  # the end of the replaced connection has no effect
    assert read(room.route("2", Envelope("offer", "b", "a"), b'{"x":1}')) == [("send", ["3"], {"x": 1})]


def test_instances_are_in_the_list_and_the_notice() -> None:
    room = rooms()
    room.join("1", Join("a", instance="x"), 0)
    assert read(room.join("2", Join("b"), 0))[1] == listed("2", "a", instances={"a": "x"})
    assert read(room.join("3", Join("c", instance="z"), 0)) == [
        ("admit", "3"),
        listed("3", "a", "b", instances={"a": "x"}),
        notice("joined", "c", "1", "2", instance="z"),
    ]


def test_same_key_and_instance_takes_the_seat_unnoticed() -> None:
    room = rooms()
    room.join("1", Join("a", key="k", instance="x"), 0)
    room.join("2", Join("b"), 0)
    again = room.join("3", Join("a", key="k", instance="x"), 1)
    assert read(again) == [("close", "1", 4001), ("admit", "3"), listed("3", "b")]


@pytest.mark.parametrize(("before", "after"), [("x", "y"), ("x", None), (None, "y")])
def test_same_key_by_another_instance_leaves_and_joins(before: str | None, after: str | None) -> None:
    room = rooms()
    room.join("1", Join("a", key="k", instance=before), 0)
    room.join("2", Join("b"), 0)
    assert read(room.join("3", Join("a", key="k", instance=after), 1)) == [
        ("close", "1", 4001),
        notice("left", "a", "2"),
        ("admit", "3"),
        listed("3", "b"),
        notice("joined", "a", "2", instance=after),
    ]
    assert room.drop("1", 1) == []
    assert read(room.route("2", Envelope("offer", "b", "a"), b'{"x":1}')) == [("send", ["3"], {"x": 1})]


def test_queue_of_a_seat_in_grace_is_not_for_another_instance() -> None:
    room = rooms()
    room.join("1", Join("a", key="k", instance="x"), 0)
    room.join("2", Join("b"), 0)
    room.drop("1", 1)
    room.route("2", Envelope("offer", "b", "a"), b"1")
    assert read(room.join("3", Join("a", key="k", instance="y"), 2)) == [
        notice("left", "a", "2"),
        ("admit", "3"),
        listed("3", "b"),
        notice("joined", "a", "2", instance="y"),
    ]
    assert room.queued == 0
    assert room.expire(99) == [] and room.peers() == ["b", "a"]


def test_other_instance_of_the_owner_precedes_waiting_claims() -> None:
    room = rooms()
    room.join("1", Join("a", key="k", instance="x"), 0)
    room.join("2", Join("a", key="other"), 1)
    assert read(room.join("3", Join("a", key="k", instance="y"), 1)) == [
        ("close", "1", 4001),
        ("admit", "3"),
        listed("3"),
        ("ask", "3"),
    ]
    assert codes(room.pong("3")) == [(["2"], "id-taken")]


def test_other_instance_may_join_a_full_room() -> None:
    room: Rooms[str] = Rooms(grace=5, takeover_ping=2, max_seat_queue=0, max_rooms=1, max_room_peers=1)
    room.max_seats = 1
    room.join("1", Join("a", key="k", instance="x"), 0)
    assert read(room.join("2", Join("a", key="k", instance="y"), 0))[:2] == [("close", "1", 4001), ("admit", "2")]
    assert len(room) == 1


@pytest.mark.parametrize("key", ["\ud800", "é"])
def test_key_may_be_any_json_string(key: str) -> None:
    room = rooms()
    room.join("1", Join("a", key=key), 0)
    assert read(room.join("2", Join("a", key="k"), 1)) == [("ask", "1")]
    assert read(room.join("3", Join("a", key=key), 1))[0] == ("close", "1", 4001)


@pytest.mark.parametrize("key", [None, "other"])
def test_holder_that_answers_a_ping_keeps_its_seat(key: str | None) -> None:
    room = rooms()
    room.join("1", Join("a", key="k"), 0)
    assert read(room.join("2", Join("a", key=key), 1)) == [("ask", "1")]
    assert room.deadline == 3
    pong = room.pong("1")
    assert codes(pong) == [(["2"], "id-taken")]
    assert read(pong)[-1] == ("close", "2", 4409)
    assert room.expire(3) == [] and room.name("1") == "a"


def test_holder_that_does_not_answer_loses_its_seat() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    room.join("2", Join("b"), 0)
    room.join("3", Join("a"), 1)
    assert room.expire(2.9) == []
    assert read(room.expire(3)) == [
        ("close", "1", 4001),
        notice("left", "a", "2"),
        ("admit", "3"),
        listed("3", "b"),
        notice("joined", "a", "2"),
    ]


def test_holder_that_leaves_while_contested_frees_its_seat() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    room.join("2", Join("a"), 1)
    assert read(room.leave("1", 1.5)) == [("admit", "2"), listed("2")]
    assert room.expire(9) == [] and room.name("2") == "a"


def test_first_of_several_claims_gets_the_seat() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    room.join("2", Join("a"), 1)
    room.join("3", Join("a"), 1)
    assert read(room.expire(3)) == [("close", "1", 4001), ("admit", "2"), listed("2"), ("ask", "2")]
    assert codes(room.pong("2")) == [(["3"], "id-taken")]


def test_owner_returning_while_contested_keeps_its_seat() -> None:
    room = rooms()
    room.join("1", Join("a", key="k"), 0)
    room.join("2", Join("a"), 1)
    assert read(room.join("3", Join("a", key="k"), 2)) == [
        ("close", "1", 4001),
        ("admit", "3"),
        listed("3"),
        ("ask", "3"),
    ]
    assert codes(room.pong("3")) == [(["2"], "id-taken")]


def test_claim_of_a_closed_connection_is_removed() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    room.join("2", Join("a"), 1)
    assert room.drop("2", 1) == [] and room.pong("1") == [] and room.expire(9) == []


def test_claims_per_seat_are_bounded() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    for n in range(MAX_CLAIMS):
        assert codes(room.join(f"claim {n}", Join("a"), 1)) == []
    assert codes(room.join("late", Join("a"), 1)) == [(["late"], "id-taken")]


def test_seat_in_grace_delivers_its_queue_in_order() -> None:
    room = rooms()
    room.join("1", Join("a", key="k"), 0)
    room.join("2", Join("b"), 0)
    assert room.drop("1", 10) == [] and room.deadline == 15
    assert room.route("2", Envelope("offer", "b", "a"), b"1") == ()
    assert read(room.route("2", Envelope("hello", "b", None), b"2")) == []
    assert read(room.join("3", Join("c"), 11))[1] == listed("3", "a", "b")
    back = room.join("4", Join("a", key="k"), 12)
    assert read(back) == [
        ("admit", "4"),
        listed("4", "b", "c"),
        ("send", ["4"], 1),
        ("send", ["4"], 2),
    ]
    assert room.expire(99) == []


def test_seat_is_freed_at_the_end_of_grace() -> None:
    room = rooms()
    room.join("1", Join("a", key="k"), 0)
    room.join("2", Join("b"), 0)
    room.drop("1", 10)
    assert room.expire(14.9) == []
    assert read(room.expire(15)) == [notice("left", "a", "2")]
    assert codes(room.route("2", Envelope("offer", "b", "a"), b"1")) == [(["2"], "peer-not-found")]


def test_outdated_deadline_does_not_end_a_second_grace() -> None:
    room = rooms()
    room.join("1", Join("a", key="k"), 0)
    room.drop("1", 0)
    room.join("2", Join("a", key="k"), 4)
    room.drop("2", 4.5)
    assert room.expire(5) == [] and room.peers() == ["a"]
    room.expire(9.5)
    assert room.peers() == []


@pytest.mark.parametrize(("key", "grace", "clean"), [(None, 5, False), ("k", 0, False), ("k", 5, True)])
def test_peer_without_a_key_or_grace_leaves_at_once(key: str | None, grace: float, clean: bool) -> None:
    room = rooms(grace=grace)
    room.join("1", Join("a", key=key), 0)
    room.join("2", Join("b"), 0)
    assert read(room.leave("1", 1) if clean else room.drop("1", 1)) == [notice("left", "a", "2")]


def test_claim_gets_a_seat_in_grace_if_its_owner_stays_away() -> None:
    room = rooms()
    room.join("1", Join("a", key="k"), 0)
    room.join("2", Join("b"), 0)
    room.drop("1", 10)
    assert room.join("3", Join("a", key="other"), 11) == []
    assert read(room.expire(13)) == [
        notice("left", "a", "2"),
        ("admit", "3"),
        listed("3", "b"),
        notice("joined", "a", "2"),
    ]


def test_full_queue_of_a_seat_in_grace_is_answered() -> None:
    room = rooms(queue=10)
    room.join("1", Join("a", key="k"), 0)
    room.join("2", Join("b"), 0)
    room.drop("1", 0)
    assert room.route("2", Envelope("offer", "b", "a"), b"12345678") == ()
    assert codes(room.route("2", Envelope("offer", "b", "a"), b"123")) == [(["2"], "peer-not-found")]
    assert room.route("2", Envelope("offer", "b", "a"), b"90") == ()


@pytest.mark.parametrize("sender", [None, "", "b", "A"])
def test_message_with_a_wrong_from_is_rejected(sender: str | None) -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    room.join("2", Join("b"), 0)
    assert codes(room.route("1", Envelope("offer", sender, "b"), b"{}")) == [(["1"], "from-mismatch")]


def test_error_has_its_target_only_if_that_is_an_id() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    assert read(room.route("1", Envelope("offer", "a", "gone"), b"{}"))[0][2]["to"] == "gone"
    assert "to" not in read(room.route("1", Envelope("offer", "a", "x" * 100_000), b"{}"))[0][2]


def test_message_to_oneself_is_rejected() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    assert codes(room.route("1", Envelope("offer", "a", "a"), b"{}")) == [(["1"], "peer-not-found")]


def test_forwarded_message_is_the_same_object() -> None:
    room = rooms()
    room.join("1", Join("a"), 0)
    room.join("2", Join("b"), 0)
    text = b'{ "type":"offer" }'
    (send,) = room.route("1", Envelope("offer", "a", "b"), text)
    assert isinstance(send, Send) and send.text is text


def test_rooms_module_is_pure() -> None:
    tree = ast.parse(Path(server.rooms.rooms.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    pure = {
        "__future__",
        "collections.abc",
        "dataclasses",
        "heapq",
        "hmac",
        "types",
        "typing",
        "peer.signaling.message_json",
        "peer.signaling.messages",
        "memory_budget",
    }
    assert imported <= pure
    assert not any(isinstance(node, ast.Await | ast.AsyncFunctionDef) for node in ast.walk(tree))
