"""Seats and claims of one node by itself. Connections are strings; time and the ledger's answers are the test's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from peer.signaling.messages import CLOSE_REPLACED, CLOSE_TRY_AGAIN, Join
from server.cluster import messages
from server.cluster.forwarding import Forwarding
from server.cluster.messages import NONE, ledger_key
from server.cluster.recovery import Recovery
from server.cluster.seats import Seats
from server.cluster.state import NodeConfig, NodeState, Seat
from server.rooms.rooms import MAX_CLAIMS, Admit, Close, Command, Ping, Send

from .world import CONFIG

KEY = ledger_key("k")


class Fixture:
    """A node without clients, subscribed to nothing."""

    def __init__(self, config: NodeConfig = CONFIG) -> None:
        self.state: NodeState[str] = NodeState("n.1", config)
        self.forwarding = Forwarding(self.state)
        self.recovery = Recovery(self.state, self.forwarding)
        self.seats = Seats(self.state, self.forwarding, self.recovery)

    def join(self, conn: str, id: str = "a", key: str | None = None, room: str = "") -> str:
        """Join with a claim. Return its ticket."""
        assert self.seats.join(conn, Join(id, room, key=key), 0.0) == []
        return self.state.claims[conn].join.ticket

    def grant(self, ticket: str, id: str = "a", room: str = "/", source: str | None = None) -> list[Command[str]]:
        return list(self.seats.seat_granted(messages.SeatGranted(room, id, ticket, source, NONE, {id: NONE}), 0.0))

    def admit(self, conn: str, id: str = "a", key: str | None = None) -> Seat[str]:
        """Join and get the seat."""
        ticket = self.join(conn, id, key)
        assert isinstance(self.grant(ticket, id)[-1], Admit)
        self.operations()
        return self.state.seats_by_ticket[ticket]

    def come_back(self, conn: str, seat: Seat[str]) -> Sequence[Command[str]]:
        """Return to ``seat`` with its key. Its join is then on its way, but not confirmed."""
        return self.seats.join(conn, Join(seat.id, key="k"), 0.0)

    def operations(self) -> list[messages.Operation]:
        """Acknowledge the operations queued so far, and return them."""
        found = [item.operation for item in self.state.outgoing._items if item.waits]
        self.state.outgoing.next_batch()
        self.state.outgoing.acknowledge()
        return found


@pytest.fixture
def node() -> Fixture:
    return Fixture()


def close_codes(commands: Sequence[Command[str]]) -> list[tuple[str, int]]:
    return [(command.conn, command.code) for command in commands if isinstance(command, Close)]


# --- joins --------------------------------------------------------------------------------------------------------


def test_join_is_a_claim_until_the_ledger_grants_it(node: Fixture) -> None:
    ticket = node.join("conn-a")
    (operation,) = node.operations()
    assert operation == messages.Join("/", "a", ticket, NONE) and "conn-a" not in node.state.seats
    assert node.grant(ticket)[-1] == Admit("conn-a", (), {})
    assert node.state.seats["conn-a"].ticket == ticket and not node.state.claims


def test_grant_for_a_client_that_has_left_is_given_back(node: Fixture) -> None:
    ticket = node.join("conn-a")
    node.operations()
    node.seats.leave("conn-a")
    node.grant(ticket)
    assert node.operations() == [messages.Leave("/", "a", ticket)] and not node.state.seats_by_ticket


def test_claim_that_is_withdrawn_in_time_is_not_sent(node: Fixture) -> None:
    node.join("conn-a")
    node.seats.leave("conn-a")
    assert node.operations() == []


def test_owner_returns_to_its_seat_without_the_ledger(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    commands = node.come_back("conn-b", seat)
    assert close_codes(commands) == [("conn-a", CLOSE_REPLACED)]
    assert commands[-1] == Admit("conn-b", (), {})
    assert node.operations() == [messages.Join("/", "a", seat.ticket, KEY)]


def test_second_return_reuses_the_join_that_waits(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    node.come_back("conn-b", seat)
    ticket = seat.ticket
    node.come_back("conn-c", seat)
    assert seat.ticket == ticket and len(node.operations()) == 1


def test_grant_confirms_a_return(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    node.come_back("conn-b", seat)
    assert seat.confirm_until is not None
    node.grant(seat.ticket)
    assert seat.confirm_until is None


def test_second_connection_of_the_owner_replaces_the_first(node: Fixture) -> None:
    """Both joined before the ledger answered."""
    first, second = node.join("conn-a", key="k"), node.join("conn-b", key="k")
    node.grant(first)
    assert close_codes(node.grant(second)) == [("conn-a", CLOSE_REPLACED)]
    assert node.state.seats_by_ticket.keys() == {second}


def test_claim_older_than_a_return_is_replaced(node: Fixture) -> None:
    first, second = node.join("conn-a", key="k"), node.join("conn-b", key="k")
    node.grant(first)
    node.come_back("conn-c", node.state.seats_by_ticket[first])
    assert close_codes(node.grant(second)) == [("conn-b", CLOSE_REPLACED)]
    assert node.state.seats["conn-c"].id == "a"


def test_grant_to_another_client_closes_the_present_one(node: Fixture) -> None:
    node.admit("conn-a")
    assert close_codes(node.grant(node.join("conn-b"))) == [("conn-a", CLOSE_REPLACED)]


def test_granted_seat_of_another_node_waits_for_the_handover(node: Fixture) -> None:
    ticket = node.join("conn-a", key="k")
    commands = node.grant(ticket, source="n.2")
    assert not any(isinstance(command, Admit) for command in commands)
    assert node.state.seats_by_ticket[ticket].awaits == {"handed", "echo"}


@pytest.mark.parametrize(("seats", "rooms", "reason"), [(1, 0, "no more peers"), (0, 1, "no more rooms")])
def test_join_beyond_a_limit_of_the_node_is_rejected(seats: int, rooms: int, reason: str) -> None:
    node = Fixture(replace(CONFIG, max_rooms=rooms))
    node.seats.max_seats = seats
    node.admit("conn-a")
    error, close = node.seats.join("conn-b", Join("b", "attic"), 0.0)
    assert isinstance(error, Send) and reason in error.text.decode()
    assert isinstance(close, Close) and close.conn == "conn-b"


def test_room_that_is_claimed_already_needs_no_further_room() -> None:
    node = Fixture(replace(CONFIG, max_rooms=1))
    node.join("conn-a", "a", room="attic")
    node.join("conn-b", "b", room="attic")
    assert len(node.operations()) == 2


# --- the end of a connection --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "k"])
def test_clean_close_frees_the_seat(node: Fixture, key: str | None) -> None:
    seat = node.admit("conn-a", key=key)
    node.seats.leave("conn-a")
    assert node.operations() == [messages.Leave("/", "a", seat.ticket)] and not node.state.seats_by_ticket


def test_lost_connection_without_a_key_frees_the_seat(node: Fixture) -> None:
    seat = node.admit("conn-a")
    node.seats.drop("conn-a", 0.0)
    assert node.operations() == [messages.Leave("/", "a", seat.ticket)]


def test_lost_connection_with_a_key_enters_grace(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    node.seats.drop("conn-a", 10.0)
    assert seat.grace_until == 10.0 + CONFIG.grace and node.operations() == []
    node.seats.check_seat(seat, 10.0 + CONFIG.grace)
    assert node.operations() == [messages.Leave("/", "a", seat.ticket)]


def test_drain_entrusts_seats_with_a_key_and_frees_others(node: Fixture) -> None:
    here, away, keyless = node.admit("conn-a", "a", "k"), node.admit("conn-b", "b", "k"), node.admit("conn-c", "c")
    node.seats.drop("conn-b", 0.0)
    node.join("conn-d", "d")
    node.seats.drain(1.0)
    assert node.operations() == [
        messages.Entrust("/", "a", here.ticket, CONFIG.grace),
        messages.Entrust("/", "b", away.ticket, CONFIG.grace - 1.0),
        messages.Leave("/", "c", keyless.ticket),
    ]


# --- seats at other nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "awaits"), [(None, set()), ("n.2", {"handed", "echo"})])
def test_entrusted_seat_is_kept_in_grace(node: Fixture, source: str | None, awaits: set[str]) -> None:
    event = messages.SeatEntrusted("/", "a", "ticket", source, KEY, 3.0, NONE, {"a": NONE})
    node.seats.seat_entrusted(event, 10.0)
    seat = node.state.seats_by_ticket["ticket"]
    assert (seat.conn, seat.grace_until, seat.awaits) == (None, 13.0, awaits)


def test_entrusted_seat_whose_owner_is_back_is_left_alone(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    event = messages.SeatEntrusted("/", "a", "older", "n.2", KEY, 3.0, NONE, {"a": NONE})
    assert node.seats.seat_entrusted(event, 0.0) == []
    assert node.state.seats_by_ticket == {seat.ticket: seat}


def test_moved_seat_hands_over_its_messages(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    moved = messages.SeatMoved("/", "a", True, seat.ticket)
    assert close_codes(node.seats.seat_moved(moved, 0.0)) == [("conn-a", CLOSE_REPLACED)]
    assert node.operations() == [messages.EndHandover("/", "a", seat.ticket)] and not node.state.rooms


def test_moved_seat_that_is_gone_here_still_ends_the_handover(node: Fixture) -> None:
    assert node.seats.seat_moved(messages.SeatMoved("/", "a", True, "ticket"), 0.0) == []
    assert node.operations() == [messages.EndHandover("/", "a", "ticket")]


def test_peer_gone_closes_a_seat_that_the_ledger_gave_away(node: Fixture) -> None:
    seat = node.admit("conn-a")
    gone = messages.PeerGone("/", "a", True, seat.ticket)
    assert close_codes(node.seats.peer_gone(gone, 0.0)) == [("conn-a", CLOSE_REPLACED)]
    assert not node.state.rooms


def test_peer_gone_in_an_unknown_room_is_ignored(node: Fixture) -> None:
    assert node.seats.peer_gone(messages.PeerGone("/attic", "a", True, "ticket"), 0.0) == ()


def test_lost_seat_is_closed_if_it_is_here(node: Fixture) -> None:
    seat = node.admit("conn-a")
    assert close_codes(node.seats.seat_lost(messages.SeatLost(seat.ticket), 0.0)) == [("conn-a", CLOSE_REPLACED)]
    assert node.seats.seat_lost(messages.SeatLost(seat.ticket), 0.0) == ()


# --- claims -------------------------------------------------------------------------------------------------------


def claim(seat: Seat[str], number: int = 1, ticket: str | None = None) -> messages.SeatClaimed:
    return messages.SeatClaimed("/", seat.id, ticket or seat.ticket, "n.2", f"claim-{number}")


def test_claimed_seat_pings_its_holder_once(node: Fixture) -> None:
    seat = node.admit("conn-a")
    assert node.seats.seat_claimed(claim(seat), 0.0) == (Ping("conn-a"),)
    assert node.seats.seat_claimed(claim(seat), 0.0) == (), "the same claim"
    assert node.seats.seat_claimed(claim(seat, 2), 0.0) == (), "the ping is on its way"
    node.seats.pong("conn-a")
    assert node.operations() == [messages.Notify("n.2", f"denied claim-{n}") for n in (1, 2)]


def test_claimed_seat_without_a_pong_is_given_up(node: Fixture) -> None:
    seat = node.admit("conn-a")
    node.seats.seat_claimed(claim(seat), 0.0)
    assert close_codes(node.seats.check_seat(seat, CONFIG.takeover_ping)) == [("conn-a", CLOSE_REPLACED)]
    assert node.operations() == [messages.Leave("/", "a", seat.ticket), messages.Notify("n.2", "again claim-1")]


def test_claimed_seat_in_grace_pings_nobody(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    node.seats.drop("conn-a", 0.0)
    assert node.seats.seat_claimed(claim(seat), 0.0) == ()
    assert seat.pong_until == CONFIG.takeover_ping


def test_claim_of_a_seat_that_is_gone_is_to_be_repeated(node: Fixture) -> None:
    seat = node.admit("conn-a")
    node.seats.seat_claimed(claim(seat, ticket="older"), 0.0)
    assert node.operations() == [messages.Notify("n.2", "again claim-1")]


def test_claims_beyond_the_limit_are_denied(node: Fixture) -> None:
    seat = node.admit("conn-a")
    for number in range(MAX_CLAIMS + 1):
        node.seats.seat_claimed(claim(seat, number), 0.0)
    assert node.operations() == [messages.Notify("n.2", f"denied claim-{MAX_CLAIMS}")]


def test_claim_of_a_seat_that_was_just_taken_is_denied(node: Fixture) -> None:
    ticket = node.join("conn-a", key="k")
    node.grant(ticket, source="n.2")
    node.operations()
    node.seats.seat_claimed(claim(node.state.seats_by_ticket[ticket]), 0.0)
    assert node.operations() == [messages.Notify("n.2", "denied claim-1")]


def test_pong_of_an_unknown_connection_is_ignored(node: Fixture) -> None:
    assert node.seats.pong("conn-x") == []


def test_denied_claim_is_answered_with_id_taken(node: Fixture) -> None:
    error, close = node.seats.claim_denied(messages.ClaimDenied(node.join("conn-a")), 0.0)
    assert isinstance(error, Send) and b"id-taken" in error.text
    assert isinstance(close, Close) and close.conn == "conn-a"


def test_denied_return_closes_the_seat(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    denied = messages.ClaimDenied(seat.ticket)
    assert node.seats.claim_denied(denied, 0.0) == (), "nothing was asked"
    node.come_back("conn-b", seat)
    denied = messages.ClaimDenied(seat.ticket)
    assert close_codes(node.seats.claim_denied(denied, 0.0)) == [("conn-b", CLOSE_REPLACED)]


def test_join_is_sent_again_on_request(node: Fixture) -> None:
    ticket = node.join("conn-a")
    node.operations()
    node.seats.join_again(messages.JoinAgain(ticket), 0.0)
    assert node.operations() == [messages.Join("/", "a", ticket, NONE)]


def test_return_is_sent_again_on_request(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    node.seats.join_again(messages.JoinAgain(seat.ticket), 0.0)
    node.seats.join_again(messages.JoinAgain("unknown"), 0.0)
    assert node.operations() == [], "neither waits for an answer"
    node.come_back("conn-b", seat)
    node.operations()
    node.seats.join_again(messages.JoinAgain(seat.ticket), 0.0)
    assert node.operations() == [messages.Join("/", "a", seat.ticket, KEY)]


def test_full_room_rejects_a_claim(node: Fixture) -> None:
    error, close = node.seats.room_is_full(messages.RoomFull(node.join("conn-a")), 0.0)
    assert isinstance(error, Send) and b"the room is full" in error.text
    assert isinstance(close, Close) and close.conn == "conn-a"


@pytest.mark.parametrize("connected", [True, False])
def test_full_room_rejects_a_return(node: Fixture, connected: bool) -> None:
    """The ledger had freed the seat."""
    seat = node.admit("conn-a", key="k")
    assert node.seats.room_is_full(messages.RoomFull(seat.ticket), 0.0) == (), "nothing was asked"
    node.come_back("conn-b", seat)
    if not connected:
        node.seats.drop("conn-b", 0.0)
    commands = node.seats.room_is_full(messages.RoomFull(seat.ticket), 0.0)
    assert [conn for conn, _ in close_codes(commands)] == (["conn-b"] if connected else [])
    assert not node.state.seats_by_ticket


# --- deadlines ----------------------------------------------------------------------------------------------------


def test_unconfirmed_return_is_repeated_once_it_was_sent(node: Fixture) -> None:
    seat = node.admit("conn-a", key="k")
    node.come_back("conn-b", seat)
    assert seat.confirm_until is not None
    node.seats.check_seat(seat, seat.confirm_until)
    assert node.operations() == [messages.Join("/", "a", seat.ticket, KEY)], "it still waited"
    node.seats.check_seat(seat, seat.confirm_until)
    assert node.operations() == [messages.Join("/", "a", seat.ticket, KEY, insist=1)]


def test_seat_without_a_due_deadline_is_left_alone(node: Fixture) -> None:
    assert node.seats.check_seat(node.admit("conn-a"), 100.0) == [] and node.operations() == []


def test_unanswered_claim_is_repeated_once_it_was_sent(node: Fixture) -> None:
    ticket = node.join("conn-a")
    pending = node.state.claims["conn-a"]
    assert node.seats.check_claim(pending, pending.again_at) == []
    assert node.operations() == [messages.Join("/", "a", ticket, NONE)], "it still waited"
    node.seats.check_claim(pending, pending.again_at)
    assert node.operations() == [messages.Join("/", "a", ticket, NONE, insist=1)]


def test_unanswered_claim_is_given_up(node: Fixture) -> None:
    node.join("conn-a")
    commands = node.seats.check_claim(node.state.claims["conn-a"], CONFIG.join_timeout)
    assert close_codes(commands) == [("conn-a", CLOSE_TRY_AGAIN)] and not node.state.claims
