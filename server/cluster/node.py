"""One node of a cluster: its clients, and its view of the rooms they are in (docs/decisions/0014). Pure.

Like ``rooms.Rooms``, it receives events and returns commands for its shell. In addition it queues operations for the
ledger (``outgoing``), and processes the ledger's decisions from its inbox (``process``), entry by entry.

Invariant ("converging views"): after each entry of the inbox, a room of this node equals the ledger's room at the
time when the entry was written, and only the inbox changes it. A client's peer list plus the notices since is
therefore always the room without the client itself, whichever nodes the others are on.

| event                         | action                                                                           |
|-------------------------------|----------------------------------------------------------------------------------|
| join                          | send it; repeat after 3 s; close with 1013 after ``join_timeout``                |
| join with the key of a seat   | admit the owner at once, and send the join; this works without the ledger.       |
|   at this node                | Another instance of the owner is like any other join                             |
| joined                        | admit and notify, after the handover if the seat moved here; send a leave if the |
|                               | client is gone                                                                   |
| moved                         | close with 4001; hand over the queued messages; settle                           |
| ask                           | ping the holder; pong: denied; no pong in time: 4001, leave, and the claiming    |
|                               | client joins again                                                               |
| close, drop, end of grace     | as in ``rooms``, by a leave; notify the others when the ledger reports gone      |
| a message to a seat here      | deliver it directly                                                              |
| a message to another node     | send it; the ledger knows which node holds the seat at that moment               |

The parts: ``seats`` (seats and claims), ``forwarding`` (messages and handover), ``recovery`` (presence, and a restart
of Redis), on a common ``state``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic

from peer.signaling.messages import DEFAULT_ROOM, Envelope, Join

from ..rooms.rooms import Command
from . import messages
from .batch_queue import Batch, BatchQueue
from .forwarding import Forwarding
from .messages import ledger_room
from .recovery import Recovery
from .seats import Seats
from .state import C, Claim, NodeConfig, NodeState, Seat


class InboxError(Exception):
    """An inbox entry is missing or malformed: the node's view may be wrong, and it has to register again."""


class Node(Generic[C]):
    """The clients of one node.

    Args:
        name: name in the ledger, TOKEN.N for its N-th registration; never used again by any node.
    """

    def __init__(self, name: str, config: NodeConfig) -> None:
        self._state: NodeState[C] = NodeState(name, config)
        self._forwarding = Forwarding(self._state)
        self._recovery = Recovery(self._state, self._forwarding)
        self._seats = Seats(self._state, self._forwarding, self._recovery)
        self.entries_read = 0
        """Number of inbox entries processed since the node registered."""
        self.bytes_read = 0
        """Size of their texts and instances, in bytes."""
        seats, forwarding, recovery = self._seats, self._forwarding, self._recovery
        self._handlers: dict[type[Any], Callable[[Any, float], Sequence[Command[C]]]] = {
            messages.Entered: recovery.entered,
            messages.SeatGranted: seats.seat_granted,
            messages.SeatEntrusted: seats.seat_entrusted,
            messages.PeerArrived: recovery.peer_arrived,
            messages.PeerGone: seats.peer_gone,
            messages.SeatMoved: seats.seat_moved,
            messages.SeatLost: seats.seat_lost,
            messages.SeatClaimed: seats.seat_claimed,
            messages.ClaimDenied: seats.claim_denied,
            messages.JoinAgain: seats.join_again,
            messages.RoomFull: seats.room_is_full,
            messages.PeerNotFound: forwarding.peer_not_found,
            messages.MessageReceived: forwarding.message_received,
            messages.BroadcastReceived: forwarding.broadcast_received,
            messages.MessageHandedOver: forwarding.handed_over,
            messages.HandoverEnded: forwarding.handover_ended,
            messages.Echo: forwarding.echo_received,
        }

    # --- its contents, as in rooms.Rooms --------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the node in the ledger."""
        return self._state.name

    @property
    def outgoing(self) -> BatchQueue:
        """The operations that wait for the ledger."""
        return self._state.outgoing

    @property
    def queued(self) -> int:
        """Size of the messages queued for seats, with their overhead, in bytes."""
        return self._state.queued

    @property
    def max_seats(self) -> int:
        """Maximum number of seats at this node, those in grace included; 0: no limit."""
        return self._seats.max_seats

    @max_seats.setter
    def max_seats(self, limit: int) -> None:
        self._seats.max_seats = limit

    @property
    def deadline(self) -> float | None:
        """The time at which ``expire`` is due."""
        deadlines = (self._state.deadline, self.outgoing.deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def rooms(self) -> list[str]:
        """Return the names of the rooms with clients of this node."""
        return [name.removeprefix("/") for name, room in self._state.rooms.items() if room.seats]

    def peers(self, room: str = DEFAULT_ROOM) -> list[str]:
        """Return the ids in ``room`` as this node knows them; empty if it has no client there."""
        found = self._state.rooms.get(ledger_room(room))
        return list(found.peers) if found else []

    def name_of(self, conn: C) -> str | None:
        """Return the id that ``conn`` holds, or ``None``."""
        seat = self._state.seats.get(conn)
        return seat.id if seat else None

    def room_of(self, conn: C) -> str | None:
        """Return the name of the room that ``conn`` is in, or ``None``."""
        seat = self._state.seats.get(conn)
        return seat.room.name.removeprefix("/") if seat else None

    def __len__(self) -> int:
        return len(self._state.seats_by_ticket)

    # --- clients --------------------------------------------------------------------------------------------------

    def join(self, conn: C, join: Join, now: float) -> list[Command[C]]:
        """Process a join. The answer follows later, unless ``conn`` returns to its seat at this node."""
        return self._seats.join(conn, join, now)

    def route(self, conn: C, envelope: Envelope, text: bytes, now: float) -> Sequence[Command[C]]:
        """Forward ``text``, unchanged, to the recipients in its envelope (rules 4 to 6)."""
        return self._forwarding.route(conn, envelope, text, now)

    def pong(self, conn: C) -> list[Command[C]]:
        """Process a pong: ``conn`` keeps its seat (rule 3)."""
        return self._seats.pong(conn)

    def leave(self, conn: C) -> list[Command[C]]:
        """Process a clean close: free the seat of ``conn`` at once, with or without a key."""
        return self._seats.leave(conn)

    def drop(self, conn: C, now: float) -> list[Command[C]]:
        """Process the loss of ``conn`` without a close frame: a seat with a key enters grace (rule 6)."""
        return self._seats.drop(conn, now)

    def expire(self, now: float) -> list[Command[C]]:
        """Process the deadlines that have passed. The shell calls this at ``deadline``; other times do no harm."""
        commands: list[Command[C]] = []
        for message in self.outgoing.take_expired(now):
            commands += self._forwarding.undelivered(message)
        for due in self._state.due(now):
            match due:
                case Seat() as seat:
                    commands += self._forwarding.check_handover(seat, now)
                    commands += self._seats.check_seat(seat, now)
                case Claim() as claim:
                    commands += self._seats.check_claim(claim, now)
                case None:
                    commands += self._recovery.settle(now)
        return commands

    def drain(self, now: float) -> None:
        """Hand over the seats with a key to other nodes, because this one stops.

        The shell closes all connections, and sends ``messages.Unregister`` once ``is_drained``.
        """
        self._seats.drain(now)

    @property
    def is_drained(self) -> bool:
        """Whether there is nothing left to hand over or to send."""
        return not self._state.seats_by_ticket and not self.outgoing

    # --- the ledger -----------------------------------------------------------------------------------------------

    def register(self, name: str) -> list[Command[C]]:
        """Register as ``name``, because Redis was restarted or the ledger has removed this node.

        The node claims its clients' seats again. What it knows of peers at other nodes is unconfirmed until the
        ledger is ``settle_time`` seconds old.
        """
        self.entries_read = self.bytes_read = 0
        return self._recovery.register(name)

    def process(self, entry: messages.Entry, now: float) -> Sequence[Command[C]]:
        """Process the next entry of the inbox.

        Raises:
            InboxError: ``entry`` is not the next one, or the ledger did not write it.
        """
        if entry.number != self.entries_read + 1:
            raise InboxError(f"entry {entry.number} of the inbox came after {self.entries_read}")
        self.entries_read = entry.number
        self.bytes_read += len(entry.text or b"") + len(entry.instances or b"")
        try:
            event = messages.read_event(entry)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise InboxError(f"entry {entry.number} of the inbox is malformed: {entry.line[:80]!r}") from None
        return self._handlers[type(event)](event, now)

    def next_batch(self, *, empty: bool = False) -> Batch | None:
        """Return the next batch for the ledger; with ``empty`` also one without operations, as a heartbeat.

        The shell calls ``outgoing.acknowledge`` when the batch was answered.
        """
        return self.outgoing.next_batch(empty=empty)
