"""Seats and claims of one cluster node: which client holds an id, and which clients claim it. Pure.

A join is a claim until the ledger answers. A client that returns with the key to a seat at this node is admitted at
once, so that it needs no ledger; the ledger is informed. Another instance of the owner waits for the ledger, because
all nodes have to report it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hmac import compare_digest
from typing import Final, Generic

from peer.signaling.messages import CLOSE_REPLACED, CLOSE_TRY_AGAIN, DEFAULT_ROOM, Join

from ..rooms.rooms import MAX_CLAIMS, Close, Command, Ping, id_taken, room_full
from . import messages
from .forwarding import Forwarding
from .messages import NONE, is_other_process, ledger_instance, ledger_key, ledger_room
from .recovery import Recovery
from .state import C, Claim, NodeState, Seat

_ANSWER_TIME: Final = 1.0
"""Time for an answer to a join, in seconds, beyond the time that the holder has for its pong."""
_REPLACED: Final = "replaced by a newer connection with the same key"
_TAKEN: Final = "another client has this id now"


class Seats(Generic[C]):
    """The seats of one node: admits clients to its rooms, and gives up their seats."""

    def __init__(self, state: NodeState[C], forwarding: Forwarding[C], recovery: Recovery[C]) -> None:
        self._state = state
        self._forwarding = forwarding
        self._recovery = recovery
        self._claims_per_room: Counter[str] = Counter()
        self.max_seats = 0
        """Maximum number of seats at this node, those in grace included; 0: no limit."""

    # --- from this node's clients ---------------------------------------------------------------------------------

    def join(self, conn: C, join: Join, now: float) -> list[Command[C]]:
        """Claim a seat for ``conn``, or return its own to it."""
        state = self._state
        assert conn not in state.seats and conn not in state.claims, "a connection joins once"
        room, key, ticket = ledger_room(join.room or DEFAULT_ROOM), ledger_key(join.key), state.new_ticket()
        instance, most = ledger_instance(join.instance), state.config.max_room_peers
        operation = messages.Join(room, join.peer_id, ticket, key, limit=most, instance=instance)
        again_at = now + state.config.takeover_ping + _ANSWER_TIME
        seat = state.seat(room, join.peer_id)
        owns = seat is not None and key != NONE and compare_digest(seat.key, key)
        if seat is not None and owns and not is_other_process(seat.instance, instance):
            seat.instance = instance
            if seat.rejoin is not None and seat.rejoin.waits:  # the join of the previous return is not sent yet
                commands = self._return(seat, conn, seat.ticket)
            else:
                item = state.outgoing.add(operation)
                commands = self._return(seat, conn, ticket)
                seat.rejoin = item
            seat.confirm_until = state.schedule(again_at, seat)
            return commands
        if not owns and (why := self._full(room)) is not None:
            return room_full(conn, why)
        claim = Claim(conn, operation, state.outgoing.add(operation), again_at, now + state.config.join_timeout)
        state.claims_by_ticket[ticket] = state.claims[conn] = claim
        self._claims_per_room[room] += 1
        state.schedule(min(claim.again_at, claim.give_up_at), claim)
        return []

    def pong(self, conn: C) -> list[Command[C]]:
        """Process a pong: ``conn`` keeps its seat (rule 3)."""
        seat = self._state.seats.get(conn)
        if seat is not None:
            self._answer_claims(seat, "denied")
        return []

    def leave(self, conn: C) -> list[Command[C]]:
        """Process a clean close: free the seat of ``conn`` at once, with or without a key."""
        claim = self._state.claims.get(conn)
        if claim is not None:
            self._remove_claim(claim.join.ticket)  # if the ledger grants it nevertheless, the answer is a leave
            self._state.outgoing.withdraw(claim.queued)
        seat = self._state.seats.get(conn)
        if seat is not None:
            self._vacate(seat)
        return []

    def drop(self, conn: C, now: float) -> list[Command[C]]:
        """Process the loss of ``conn`` without a close frame: a seat with a key enters grace (rule 6)."""
        seat = self._state.seats.get(conn)
        if seat is None or seat.key == NONE or self._state.config.grace <= 0:
            return self.leave(conn)
        self._detach(seat)
        seat.grace_until = self._state.schedule(now + self._state.config.grace, seat)
        return []

    def drain(self, now: float) -> None:
        """Entrust all seats with a key to other nodes, and free the others."""
        state = self._state
        for claim in list(state.claims.values()):
            self.leave(claim.conn)
        for seat in list(state.seats_by_ticket.values()):
            if seat.key == NONE or state.config.grace <= 0:
                self._vacate(seat)
                continue
            if seat.conn is not None:
                self._detach(seat)
            left = state.config.grace if seat.grace_until is None else max(0.0, seat.grace_until - now)
            state.outgoing.add(messages.Entrust(seat.room.name, seat.id, seat.ticket, left))

    # --- from the ledger: seats -----------------------------------------------------------------------------------

    def seat_granted(self, event: messages.SeatGranted, now: float) -> Sequence[Command[C]]:
        """Take a seat granted by the ledger. Admit the client, unless another node has to hand over first."""
        state, ticket = self._state, event.ticket
        room, commands = self._recovery.subscribe(event.room, event.peers, now)
        claim = self._remove_claim(ticket)
        commands += self._recovery.peer_joined(room, event.id, event.instance)
        if claim is None:
            seat = state.seats_by_ticket.get(ticket)
            if seat is None:  # the client has left since
                state.outgoing.add(messages.Leave(room.name, event.id, ticket))
                return commands
            seat.confirm_until = None
        else:
            present = room.seats.get(event.id)
            if present is not None and present.key == claim.join.key:  # two connections of the owner
                if present.confirm_until is not None:  # the other one is newer: its join is on its way
                    return [*commands, Close(claim.conn, CLOSE_REPLACED, _REPLACED)]
                present.instance = event.instance
                return [*commands, *self._return(present, claim.conn, ticket)]
            if present is not None:  # the ledger no longer has it
                commands += self._close(present, _TAKEN)
            seat = Seat(event.id, room, ticket, claim.join.key, event.instance, claim.conn)
            room.seats[event.id] = state.seats_by_ticket[ticket] = state.seats[claim.conn] = seat
            if event.source is None:
                commands += self._forwarding.admit(seat)
        if event.source is not None:
            self._forwarding.await_handover(seat, now)
        return commands

    def seat_entrusted(self, event: messages.SeatEntrusted, now: float) -> Sequence[Command[C]]:
        """Keep a seat in grace for a node that stops."""
        room, commands = self._recovery.subscribe(event.room, event.peers, now)
        commands += self._recovery.peer_joined(room, event.id, event.instance)
        if event.id in room.seats:  # its owner is back already, and its join is on its way
            return commands
        seat: Seat[C] = Seat(event.id, room, event.ticket, event.key, event.instance, None)
        room.seats[event.id] = self._state.seats_by_ticket[event.ticket] = seat
        seat.grace_until = self._state.schedule(now + event.grace, seat)
        if event.source is not None:
            self._forwarding.await_handover(seat, now)
        return commands

    def peer_gone(self, event: messages.PeerGone, now: float) -> Sequence[Command[C]]:
        """Remove a peer from the room. If its seat was at this node, the node was silent for too long."""
        room = self._state.rooms.get(event.room)
        if room is None:
            return ()
        commands: list[Command[C]] = []
        seat = room.seats.get(event.id)
        if seat is not None and seat.ticket == event.ticket:
            commands += self._close(seat, _TAKEN)
        commands += self._recovery.peer_left(room, event.id)
        if event.last:
            self._recovery.unsubscribe(room)
        return commands

    def seat_moved(self, event: messages.SeatMoved, now: float) -> Sequence[Command[C]]:
        """Hand over the messages of a seat that is now another node's. The peer stays in the room."""
        room = self._state.rooms.get(event.room)
        commands: list[Command[C]] = []
        seat = room.seats.get(event.id) if room is not None else None
        if seat is not None and seat.ticket == event.ticket:
            self._forwarding.hand_over(seat)
            commands += self._close(seat, _REPLACED)
        self._state.outgoing.add(messages.EndHandover(event.room, event.id, event.ticket))
        if room is not None and event.last:
            self._recovery.unsubscribe(room)
        return commands

    def seat_lost(self, event: messages.SeatLost, now: float) -> Sequence[Command[C]]:
        """Close a resumed seat that another client holds by now."""
        seat = self._state.seats_by_ticket.get(event.ticket)
        return () if seat is None else self._close(seat, _TAKEN)

    # --- from the ledger: claims ----------------------------------------------------------------------------------

    def seat_claimed(self, event: messages.SeatClaimed, now: float) -> Sequence[Command[C]]:
        """Process a claim, without the key, for a seat of this node: ping its holder (rule 3)."""
        seat = self._state.seat(event.room, event.id)
        claim = (event.node, event.claim)
        if seat is None or seat.ticket != event.ticket:
            self._answer(claim, "again")
        elif claim in seat.claims:
            pass
        elif len(seat.claims) >= MAX_CLAIMS or (seat.conn is not None and not seat.admitted):  # just joined: alive
            self._answer(claim, "denied")
        else:
            seat.claims.append(claim)
            if seat.pong_until is None:
                seat.pong_until = self._state.schedule(now + self._state.config.takeover_ping, seat)
                return () if seat.conn is None else (Ping(seat.conn),)
        return ()

    def claim_denied(self, event: messages.ClaimDenied, now: float) -> Sequence[Command[C]]:
        """Reject a claim of this node: the holder of the seat is alive."""
        claim = self._remove_claim(event.ticket)
        if claim is not None:
            return id_taken(claim.conn, claim.join.id)
        seat = self._state.seats_by_ticket.get(event.ticket)
        return () if seat is None or seat.confirm_until is None else self._close(seat, _TAKEN)

    def join_again(self, event: messages.JoinAgain, now: float) -> Sequence[Command[C]]:
        """Send a join again: the seat that it claims is free by now, or has moved."""
        state = self._state
        if (claim := state.claims_by_ticket.get(event.ticket)) is not None:
            claim.queued = state.outgoing.add(claim.join)
        elif (seat := state.seats_by_ticket.get(event.ticket)) is not None and seat.confirm_until is not None:
            state.outgoing.add(self._join_of(seat, insist=0))
        return ()

    def room_is_full(self, event: messages.RoomFull, now: float) -> Sequence[Command[C]]:
        """Reject a join: the room has the maximum number of peers."""
        why = f"the room is full: its limit is {self._state.config.max_room_peers}"
        claim = self._remove_claim(event.ticket)
        if claim is not None:
            return room_full(claim.conn, why)
        seat = self._state.seats_by_ticket.get(event.ticket)
        if seat is None or seat.confirm_until is None:
            return ()
        self._remove(seat)  # the ledger freed it while its owner came back
        self._answer_claims(seat, "again")
        return [] if seat.conn is None else room_full(seat.conn, why)

    # --- deadlines ------------------------------------------------------------------------------------------------

    def check_seat(self, seat: Seat[C], now: float) -> list[Command[C]]:
        """Process the deadlines of ``seat``: repeat its join, end its grace, or give it up after a missing pong."""
        commands: list[Command[C]] = []
        state = self._state
        if seat.confirm_until is not None and seat.confirm_until <= now:
            if seat.rejoin is None or not seat.rejoin.waits:  # a join that still waits needs no repetition
                seat.rejoin = state.outgoing.add(self._join_of(seat, insist=1))
            seat.confirm_until = state.schedule(now + state.config.takeover_ping + _ANSWER_TIME, seat)
        grace_over = seat.grace_until is not None and seat.grace_until <= now
        unanswered = seat.pong_until is not None and seat.pong_until <= now
        if unanswered and seat.conn is not None:
            commands.append(Close(seat.conn, CLOSE_REPLACED, "no answer; another client has this id now"))
        if grace_over or unanswered:
            self._vacate(seat)
        return commands

    def check_claim(self, claim: Claim[C], now: float) -> list[Command[C]]:
        """Send the join of ``claim`` again, or give it up."""
        state = self._state
        if claim.give_up_at <= now:
            self.leave(claim.conn)
            return [Close(claim.conn, CLOSE_TRY_AGAIN, "no answer from the other relays; try again")]
        claim.again_at = now + state.config.takeover_ping + _ANSWER_TIME
        state.schedule(min(claim.again_at, claim.give_up_at), claim)
        if not claim.queued.waits:
            claim.queued = state.outgoing.add(claim.join._replace(insist=1))
        return []

    # --- steps ----------------------------------------------------------------------------------------------------

    def _join_of(self, seat: Seat[C], *, insist: int) -> messages.Join:
        return messages.Join(seat.room.name, seat.id, seat.ticket, seat.key, insist, instance=seat.instance)

    def _full(self, room: str) -> str | None:
        """Return why this node accepts no claim for ``room``, or ``None``. The ledger limits the peers per room."""
        rooms, claimed, most = self._state.rooms, self._claims_per_room, self._state.config.max_rooms
        if most and room not in rooms:
            full = len(rooms) + len(claimed) >= most and len(rooms.keys() | claimed.keys()) >= most
            if full and room not in claimed:
                return f"this relay accepts no more rooms: its limit is {most}"
        if self.max_seats and len(self._state.seats_by_ticket) + len(self._state.claims_by_ticket) >= self.max_seats:
            return f"this relay accepts no more peers: its limit is {self.max_seats}"
        return None

    def _return(self, seat: Seat[C], conn: C, ticket: str) -> list[Command[C]]:
        """Give ``seat`` to ``conn``, a new connection of its owner. No other peer notices."""
        state = self._state
        commands: list[Command[C]] = []
        if seat.conn is not None:
            del state.seats[seat.conn]
            commands.append(Close(seat.conn, CLOSE_REPLACED, _REPLACED))
        del state.seats_by_ticket[seat.ticket]
        state.seats_by_ticket[ticket] = state.seats[conn] = seat
        if seat.ticket != ticket:
            seat.ticket, seat.rejoin = ticket, None
        seat.conn, seat.admitted, seat.grace_until = conn, False, None
        self._answer_claims(seat, "again")
        return commands if seat.awaits else commands + self._forwarding.admit(seat)

    def _detach(self, seat: Seat[C]) -> None:
        assert seat.conn is not None
        del self._state.seats[seat.conn]
        seat.conn, seat.admitted = None, False

    def _vacate(self, seat: Seat[C]) -> None:
        """Give up ``seat``. The others are notified when the ledger reports it."""
        self._remove(seat)
        self._state.outgoing.add(messages.Leave(seat.room.name, seat.id, seat.ticket))
        self._answer_claims(seat, "again")

    def _close(self, seat: Seat[C], reason: str) -> list[Command[C]]:
        """Remove ``seat``, which the ledger gave to another client, and close its connection."""
        self._remove(seat)
        self._answer_claims(seat, "again")
        return [] if seat.conn is None else [Close(seat.conn, CLOSE_REPLACED, reason)]

    def _remove(self, seat: Seat[C]) -> None:
        self._forwarding.take_queued(seat)
        del seat.room.seats[seat.id], self._state.seats_by_ticket[seat.ticket]
        if seat.conn is not None:
            del self._state.seats[seat.conn]
        self._recovery.remove_if_empty(seat.room)

    def _remove_claim(self, ticket: str) -> Claim[C] | None:
        claim = self._state.claims_by_ticket.pop(ticket, None)
        if claim is not None:
            del self._state.claims[claim.conn]
            room = claim.join.room
            self._claims_per_room[room] -= 1
            if not self._claims_per_room[room]:
                del self._claims_per_room[room]
        return claim

    def _answer_claims(self, seat: Seat[C], answer: str) -> None:
        for claim in seat.claims:
            self._answer(claim, answer)
        seat.claims, seat.pong_until = [], None

    def _answer(self, claim: tuple[str, str], answer: str) -> None:
        node, ticket = claim
        self._state.outgoing.add(messages.Notify(node, f"{answer} {ticket}"))
