"""Forwarding of one node by itself: routes, queues and the handover. Connections are strings; time is the test's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from peer.signaling.messages import Envelope
from server.cluster import messages
from server.cluster.forwarding import Forwarding
from server.cluster.state import NodeConfig, NodeState, Room, Seat
from server.rooms.rooms import Admit, Send

from .world import CONFIG

TEXT = b'{"type": "offer"}'
LATER = b'{"type": "answer"}'


class Fixture:
    """A node with the room ``""``: peers a, b and c here, and d at another node."""

    def __init__(self, config: NodeConfig = CONFIG) -> None:
        self.state: NodeState[str] = NodeState("n.1", config)
        self.forwarding = Forwarding(self.state)
        self.room: Room[str] = Room("/", peers=dict.fromkeys("abcd", "-"))
        self.state.rooms["/"] = self.room
        self.a, self.b, self.c = (self.seat(id) for id in "abc")

    def seat(self, id: str) -> Seat[str]:
        seat: Seat[str] = Seat(id, self.room, f"ticket-{id}", "-", "-", f"conn-{id}", admitted=True)
        self.room.seats[id] = self.state.seats_by_ticket[seat.ticket] = self.state.seats[f"conn-{id}"] = seat
        return seat

    def disconnect(self, seat: Seat[str]) -> None:
        assert seat.conn is not None
        del self.state.seats[seat.conn]
        seat.conn, seat.admitted = None, False

    def route(self, to: str | None, sender: str = "a", text: bytes = TEXT) -> list[object]:
        return list(self.forwarding.route("conn-a", Envelope("offer", sender, to), text, 0.0))

    def error(self, to: str | None, sender: str = "a", text: bytes = TEXT) -> str:
        """The error code that a message to ``to`` gets."""
        (command,) = self.route(to, sender, text)
        assert isinstance(command, Send) and command.to == ("conn-a",)
        return str(json.loads(command.text)["code"])

    def operations(self) -> list[messages.Operation]:
        """Acknowledge the operations queued so far, and return them."""
        found = [item.operation for item in self.state.outgoing._items if item.waits]
        self.state.outgoing.next_batch()
        self.state.outgoing.acknowledge()
        return found


def test_message_to_a_seat_here_is_sent_at_once() -> None:
    node = Fixture()
    assert node.route("b") == [Send(("conn-b",), TEXT)] and node.operations() == []


def test_message_to_another_node_is_delivered_by_the_ledger() -> None:
    node = Fixture()
    assert node.route("d") == [] and node.operations() == [messages.Deliver("/", "a", "ticket-a", "d", TEXT)]


@pytest.mark.parametrize("to", ["a", "x"])
def test_message_to_oneself_or_a_missing_peer_is_answered(to: str) -> None:
    assert Fixture().error(to) == "peer-not-found"


def test_message_with_a_wrong_sender_is_answered() -> None:
    assert Fixture().error("b", sender="b") == "from-mismatch"


def test_message_is_answered_if_the_queue_to_the_ledger_is_full() -> None:
    node = Fixture(replace(CONFIG, max_messages=300))
    assert node.route("d") == []
    assert node.error("d") == "peer-not-found"


def test_broadcast_reaches_seats_here_and_other_nodes() -> None:
    node = Fixture()
    node.disconnect(node.c)
    assert node.route(None) == [Send(["conn-b"], TEXT)]
    assert node.operations() == [messages.DeliverToAll("/", "a", "ticket-a", TEXT)]
    assert node.c.queue == [TEXT] and node.state.queued == node.c.memory > len(TEXT)


def test_broadcast_within_one_node_needs_no_ledger() -> None:
    node = Fixture()
    del node.room.peers["d"]
    assert node.route(None) == [Send(["conn-b", "conn-c"], TEXT)] and node.operations() == []


def test_full_seat_queue_is_answered_unless_for_a_broadcast() -> None:
    node = Fixture(replace(CONFIG, max_seat_queue=len(TEXT)))
    node.disconnect(node.b)
    assert node.route("b") == []
    assert node.error("b") == "peer-not-found"
    assert node.route(None) == [Send(["conn-c"], TEXT)] and node.b.queue == [TEXT]


def test_received_message_is_sent_or_queued_or_answered() -> None:
    node = Fixture(replace(CONFIG, max_seat_queue=len(TEXT)))
    event = messages.MessageReceived("/", "b", "n.2", "7", TEXT)
    assert node.forwarding.message_received(event, 0.0) == (Send(("conn-b",), TEXT),)
    node.disconnect(node.b)
    assert node.forwarding.message_received(event, 0.0) == () and node.b.queue == [TEXT]
    for undeliverable in (event, event._replace(to="x"), event._replace(room="/attic")):
        assert node.forwarding.message_received(undeliverable, 0.0) == ()
    assert node.operations() == [messages.Notify("n.2", f"nobody 7 {to}") for to in ("b", "x", "b")]


def test_received_broadcast_is_sent_or_queued() -> None:
    node = Fixture()
    node.disconnect(node.b)
    event = messages.BroadcastReceived("/", "d", TEXT)
    assert node.forwarding.broadcast_received(event, 0.0) == (Send(["conn-a", "conn-c"], TEXT),)
    assert node.b.queue == [TEXT]
    assert node.forwarding.broadcast_received(event._replace(room="/attic"), 0.0) == ()


def test_received_broadcast_skips_its_sender_that_has_moved_here() -> None:
    node = Fixture()
    node.disconnect(node.b)
    event = messages.BroadcastReceived("/", "b", TEXT)
    assert node.forwarding.broadcast_received(event, 0.0) == (Send(["conn-a", "conn-c"], TEXT),)
    assert node.b.queue == []


def test_only_an_admitted_sender_gets_errors_from_other_nodes() -> None:
    node = Fixture()
    event = messages.PeerNotFound("ticket-a", "d")
    message = messages.Deliver("/", "a", "ticket-a", "d", TEXT)
    assert len(node.forwarding.peer_not_found(event, 0.0)) == len(node.forwarding.undelivered(message)) == 1
    broadcast = messages.DeliverToAll("/", "a", "ticket-a", TEXT)
    assert node.forwarding.undelivered(broadcast) == ()
    node.disconnect(node.a)
    assert node.forwarding.peer_not_found(event, 0.0) == node.forwarding.undelivered(message) == ()


def test_retry_delivers_to_a_peer_that_has_moved_here() -> None:
    node = Fixture()
    message = messages.Deliver("/", "a", "ticket-a", "b", TEXT)
    assert node.forwarding.retry(message, 0.0) == (Send(("conn-b",), TEXT),)
    assert node.forwarding.retry(message._replace(to="d"), 0.0) == ()
    assert node.forwarding.retry(message._replace(ticket="gone"), 0.0) == ()
    assert node.operations() == [message._replace(to="d")]


# --- handover -----------------------------------------------------------------------------------------------------


@pytest.fixture
def moving() -> Fixture:
    """A node that b has moved to. Its previous node has not handed over yet."""
    node = Fixture()
    node.b.admitted = False
    node.forwarding.await_handover(node.b, 0.0)
    assert node.operations() == [messages.Notify("n.1", "echo / b ticket-b")]
    return node


def test_handover_holds_messages_back_and_delivers_them_in_order(moving: Fixture) -> None:
    forwarding = moving.forwarding
    assert moving.route("b", text=LATER) == []
    assert forwarding.message_received(messages.MessageReceived("/", "b", "n.2", "7", b"2"), 0.0) == ()
    assert forwarding.handed_over(messages.MessageHandedOver("/", "b", b"1"), 0.0) == ()
    assert forwarding.echo_received(messages.Echo("/", "b", "ticket-b"), 0.0) == []
    commands = list(forwarding.handover_ended(messages.HandoverEnded("/", "b", "ticket-b"), 0.0))
    admit, *sends = commands
    assert admit == Admit("conn-b", ("a", "c", "d"))
    assert sends == [Send(("conn-b",), text) for text in (b"1", b"2", LATER)]
    assert moving.state.queued == 0


def test_handover_events_of_other_seats_or_tickets_are_ignored(moving: Fixture) -> None:
    forwarding = moving.forwarding
    assert forwarding.echo_received(messages.Echo("/", "b", "older"), 0.0) == ()
    assert forwarding.echo_received(messages.Echo("/", "x", "ticket-b"), 0.0) == ()
    assert forwarding.handover_ended(messages.HandoverEnded("/", "x", "ticket-b"), 0.0) == ()
    assert forwarding.handed_over(messages.MessageHandedOver("/attic", "b", b"1"), 0.0) == ()
    assert forwarding.handover_ended(messages.HandoverEnded("/", "a", "ticket-a"), 0.0) == [], "it did not move"
    assert moving.b.awaits == {"handed", "echo"}


def test_handover_times_out_in_two_steps(moving: Fixture) -> None:
    forwarding, timeout = moving.forwarding, CONFIG.handover_timeout
    assert forwarding.check_handover(moving.b, timeout / 2) == [] and moving.b.awaits == {"handed", "echo"}
    assert forwarding.check_handover(moving.b, timeout) == [] and moving.b.awaits == {"echo"}
    assert moving.operations() == [messages.EndHandover("/", "b", "ticket-b")]
    (admit,) = forwarding.check_handover(moving.b, timeout + CONFIG.join_timeout)
    assert admit == Admit("conn-b", ("a", "c", "d"))


def test_handover_to_a_seat_in_grace_merges_its_queues(moving: Fixture) -> None:
    forwarding = moving.forwarding
    moving.route("b", text=LATER)
    forwarding.handed_over(messages.MessageHandedOver("/", "b", TEXT), 0.0)
    moving.disconnect(moving.b)
    assert forwarding.end_handover(moving.b) == []
    assert moving.b.queue == [TEXT, LATER] and not moving.b.handed and not moving.b.local


def test_handover_to_an_admitted_seat_sends_its_queue(moving: Fixture) -> None:
    moving.route("b")
    moving.b.admitted = True
    assert moving.forwarding.end_handover(moving.b) == [Send(("conn-b",), TEXT)]


def test_seat_that_moves_away_hands_over_its_queue() -> None:
    node = Fixture()
    node.disconnect(node.b)
    node.route("b")
    node.forwarding.hand_over(node.b)
    assert node.operations() == [messages.HandOver("/", "b", "ticket-b", TEXT)] and node.state.queued == 0
