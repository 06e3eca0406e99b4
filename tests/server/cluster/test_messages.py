"""The wire format between a node and the ledger. Its words must not change: relays of two versions share a Redis."""

from __future__ import annotations

import pytest

from server.cluster import messages
from server.cluster.messages import (
    NONE,
    UNKNOWN,
    Entry,
    encode,
    is_other_process,
    ledger_instance,
    ledger_key,
    ledger_room,
    read_event,
    read_instance,
)

OPERATIONS = [
    (messages.Join("/", "a", "1", "k", 1, 5, "=i"), ("join", "/", "a", "1", "k", 1, 5, "=i")),
    (messages.Resume("/", "a", "1", "k", "-"), ("resume", "/", "a", "1", "k", "-")),
    (messages.Resumed(), ("resumed",)),
    (messages.Leave("/", "a", "1"), ("leave", "/", "a", "1")),
    (messages.Deliver("/", "a", "1", "b", b"x"), ("send", "/", "a", "1", "b", b"x")),
    (messages.DeliverToAll("/", "a", "1", b"x"), ("cast", "/", "a", "1", b"x")),
    (messages.HandOver("/", "a", "1", b"x"), ("hand", "/", "a", "1", b"x")),
    (messages.EndHandover("/", "a", "1"), ("settle", "/", "a", "1")),
    (messages.Entrust("/", "a", "1", 2.5), ("entrust", "/", "a", "1", 2.5)),
    (messages.Notify("n.1", "denied 1"), ("tell", "n.1", "denied 1")),
    (messages.Unregister(), ("bye",)),
]
EVENTS = [
    (b"entered 1500", None, messages.Entered(1.5)),
    (b"joined / a 1 -", b"a b", messages.SeatGranted("/", "a", "1", None, "?", {"a": "?", "b": "?"})),
    (b"joined / a 1 n.1", None, messages.SeatGranted("/", "a", "1", "n.1", "?", None)),
    (b"ward / a w1 n.1 k 2.5", b"a", messages.SeatEntrusted("/", "a", "w1", "n.1", "k", 2.5, "?", {"a": "?"})),
    (b"came / a", None, messages.PeerArrived("/", "a", "?")),
    (b"gone / a 1 7", None, messages.PeerGone("/", "a", True, "7")),
    (b"gone / a 0 -", None, messages.PeerGone("/", "a", False, "-")),
    (b"moved / a 1 7", None, messages.SeatMoved("/", "a", True, "7")),
    (b"lost 7", None, messages.SeatLost("7")),
    (b"ask / a 1 n.1 7", None, messages.SeatClaimed("/", "a", "1", "n.1", "7")),
    (b"denied 7", None, messages.ClaimDenied("7")),
    (b"again 7", None, messages.JoinAgain("7")),
    (b"full 7", None, messages.RoomFull("7")),
    (b"nobody 7 b", None, messages.PeerNotFound("7", "b")),
    (b"frame /attic b n.1 7", b"x y", messages.MessageReceived("/attic", "b", "n.1", "7", b"x y")),
    (b"cast / a", b"x", messages.BroadcastReceived("/", "a", b"x")),
    (b"mail / a", b"x", messages.MessageHandedOver("/", "a", b"x")),
    (b"handed / a 7", None, messages.HandoverEnded("/", "a", "7")),
    (b"echo / a 7", None, messages.Echo("/", "a", "7")),
]
EVENTS_WITH_INSTANCES = [
    (b"joined / a 1 -", b"a b", b"=i -", messages.SeatGranted("/", "a", "1", None, "=i", {"a": "=i", "b": "-"})),
    (b"joined / a 1 n.1", None, b"=i", messages.SeatGranted("/", "a", "1", "n.1", "=i", None)),
    (b"ward / a w1 n.1 k 2.5", b"a", b"-", messages.SeatEntrusted("/", "a", "w1", "n.1", "k", 2.5, "-", {"a": "-"})),
    (b"came / a", None, b"=i", messages.PeerArrived("/", "a", "=i")),
]


@pytest.mark.parametrize(("operation", "words"), OPERATIONS, ids=[words[0] for _, words in OPERATIONS])
def test_operation_is_its_word_and_arguments(operation: messages.Operation, words: tuple[object, ...]) -> None:
    assert encode(operation) == words


@pytest.mark.parametrize(("line", "text", "event"), EVENTS, ids=[line.decode() for line, _, _ in EVENTS])
def test_entry_is_read_as_its_event(line: bytes, text: bytes | None, event: messages.Event) -> None:
    """Without instances, as an older relay writes it."""
    assert read_event(Entry(1, line, text, None)) == event


@pytest.mark.parametrize(("line", "text", "instances", "event"), EVENTS_WITH_INSTANCES)
def test_entry_with_instances_is_read_as_its_event(
    line: bytes, text: bytes | None, instances: bytes, event: messages.Event
) -> None:
    assert read_event(Entry(1, line, text, instances)) == event


@pytest.mark.parametrize(
    "instance", ["b3Jk_Q7s", "-", "?", "=", " ", "a b\n", "%20", "é\U0001f600", "\ud800", "i" * 64]
)
def test_instance_is_a_word_and_is_read_back(instance: str) -> None:
    word = ledger_instance(instance)
    assert word.isascii() and len(word.split()) == 1 and word not in (NONE, UNKNOWN)
    assert read_instance(word) == instance


def test_missing_and_unknown_instances_are_words() -> None:
    assert ledger_instance(None) == NONE
    assert read_instance(NONE) is None and read_instance(UNKNOWN) is None


def test_instances_differ_only_if_both_are_known() -> None:
    assert is_other_process("=a", "=b") and is_other_process("=a", NONE) and is_other_process(NONE, "=a")
    assert not is_other_process("=a", "=a") and not is_other_process(NONE, NONE)
    assert not is_other_process("=a", UNKNOWN) and not is_other_process(UNKNOWN, NONE)


def test_every_operation_and_event_has_a_case() -> None:
    assert {type(operation) for operation, _ in OPERATIONS} == set(messages._WORDS)
    assert {line.split()[0].decode() for line, _, _ in EVENTS} == set(messages._READERS)


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff", b"hello", b"joined", b"came /", b"came / a b", b"entered x", b"ward / a 1 - k x", b"echo / a 7 8"],
)
def test_malformed_entry_raises(line: bytes) -> None:
    with pytest.raises((LookupError, TypeError, ValueError)):
        read_event(Entry(1, line, None, None))


@pytest.mark.parametrize("instances", [b"=i", b"=i = =", b"\xff -"])
def test_malformed_list_of_instances_raises(instances: bytes) -> None:
    with pytest.raises(ValueError):
        read_event(Entry(1, b"joined / a 1 -", b"a b", instances))


def test_room_is_a_word_with_or_without_a_name() -> None:
    assert (ledger_room(""), ledger_room("attic")) == ("/", "/attic")


def test_key_is_hashed_and_a_missing_one_is_not() -> None:
    assert ledger_key(None) == NONE
    assert ledger_key("k") == ledger_key("k") != ledger_key("l")
    assert len(ledger_key("k")) == 32 and "k" not in ledger_key("k")
    assert ledger_key("\ud800") != ledger_key("")
