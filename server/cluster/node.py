"""One node of a cluster: its clients, and its view of the rooms they are in (docs/decisions/0014). Pure.

Like ``rooms.Rooms``, it receives events and returns commands for its shell. In addition it queues operations for the
ledger (``outgoing``), and processes the ledger's decisions from its inbox (``hear``), entry by entry.

Invariant ("converging views"): after each entry of the inbox, a room of this node equals the ledger's room at the
time when the entry was written, and only the inbox changes it. A client's peer list plus the notices since is
therefore always the room without the client itself, whichever nodes the others are on.

| event                         | action                                                                           |
|-------------------------------|----------------------------------------------------------------------------------|
| join                          | send it; repeat after 3 s; close with 1013 after ``join_timeout``                |
| join with the key of a seat   | admit the owner at once, and send the join; this works without the ledger        |
|   at this node                |                                                                                  |
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
from .batch_queue import Batch, Outgoing
from .forwarding import Forwarding
from .messages import room_word
from .recovery import Recovery
from .seats import Seats
from .state import C, Claim, NodeState, Seat, Terms


class InboxBroken(Exception):
    """An inbox entry is missing or malformed: the node's view may be wrong, and it has to begin a new life."""


class Node(Generic[C]):
    """The clients of one node.

    Args:
        name: name of the node in this life, TOKEN.N; unique in the cluster, forever.
    """

    def __init__(self, name: str, terms: Terms) -> None:
        self._state: NodeState[C] = NodeState(name, terms)
        self._forwarding = Forwarding(self._state)
        self._recovery = Recovery(self._state, self._forwarding)
        self._seats = Seats(self._state, self._forwarding, self._recovery)
        self.read = 0
        """Number of inbox entries processed in this life."""
        self.heard = 0
        """Size of their texts, in bytes."""
        seats, forwarding, recovery = self._seats, self._forwarding, self._recovery
        self._handlers: dict[type[Any], Callable[[Any, float], Sequence[Command[C]]]] = {
            messages.Entered: recovery.entered,
            messages.Joined: seats.seat_granted,
            messages.Ward: seats.seat_entrusted,
            messages.Came: recovery.peer_arrived,
            messages.Gone: seats.peer_gone,
            messages.Moved: seats.seat_moved,
            messages.Lost: seats.seat_lost,
            messages.AskFor: seats.seat_claimed,
            messages.Denied: seats.claim_denied,
            messages.Again: seats.join_again,
            messages.Full: seats.room_is_full,
            messages.Nobody: forwarding.peer_not_found,
            messages.Frame: forwarding.message_received,
            messages.Broadcast: forwarding.broadcast_received,
            messages.Mail: forwarding.handed_over,
            messages.Handed: forwarding.handover_finished,
            messages.Echo: forwarding.echo_received,
        }

    # --- its contents, as in rooms.Rooms --------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Name of the node in this life."""
        return self._state.name

    @property
    def outgoing(self) -> Outgoing:
        """The operations that wait for the ledger."""
        return self._state.outgoing

    @property
    def queued(self) -> int:
        """Size of the messages queued for seats, with their overhead, in bytes."""
        return self._state.queued

    @property
    def most_seats(self) -> int:
        """Maximum number of seats at this node, those in grace included; 0: no limit."""
        return self._seats.most

    @most_seats.setter
    def most_seats(self, most: int) -> None:
        self._seats.most = most

    @property
    def deadline(self) -> float | None:
        """The time at which ``expire`` is due."""
        deadlines = (self._state.deadline, self.outgoing.deadline)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    def rooms(self) -> list[str]:
        """The names of the rooms with clients of this node."""
        return [name.removeprefix("/") for name, room in self._state.rooms.items() if room.seats]

    def peers(self, room: str = DEFAULT_ROOM) -> list[str]:
        """The ids in ``room`` as this node knows them; empty if it has no client there."""
        found = self._state.rooms.get(room_word(room))
        return list(found.peers) if found else []

    def name_of(self, conn: C) -> str | None:
        """The id that ``conn`` holds."""
        seat = self._state.seats.get(conn)
        return seat.id if seat else None

    def room_of(self, conn: C) -> str | None:
        """The name of the room that ``conn`` is in."""
        seat = self._state.seats.get(conn)
        return seat.room.name.removeprefix("/") if seat else None

    def __len__(self) -> int:
        return len(self._state.seats_by_ticket)

    # --- clients --------------------------------------------------------------------------------------------------

    def join(self, conn: C, join: Join, now: float) -> list[Command[C]]:
        """``conn`` requests a seat. The answer comes later, unless ``conn`` returns to its seat at this node."""
        return self._seats.join(conn, join, now)

    def route(self, conn: C, envelope: Envelope, text: bytes, now: float) -> Sequence[Command[C]]:
        """Forward ``text``, unchanged, to the recipients in its envelope (rules 4 to 6)."""
        return self._forwarding.route(conn, envelope, text, now)

    def pong(self, conn: C) -> list[Command[C]]:
        """``conn`` answered a ping, so it keeps its seat (rule 3)."""
        return self._seats.pong(conn)

    def leave(self, conn: C) -> list[Command[C]]:
        """``conn`` closed cleanly: free its seat at once, with or without a key."""
        return self._seats.leave(conn)

    def drop(self, conn: C, now: float) -> list[Command[C]]:
        """``conn`` was lost without a close frame: keep a seat with a key for its owner (rule 6)."""
        return self._seats.drop(conn, now)

    def expire(self, now: float) -> list[Command[C]]:
        """Do what is due. The shell calls this at ``deadline``; other times do no harm."""
        commands: list[Command[C]] = []
        for message in self.outgoing.overdue(now):
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

    def quit(self, now: float) -> None:
        """Entrust the seats with a key to other nodes, because this one stops.

        The shell closes all connections, and sends ``messages.Bye`` once ``is_quit``.
        """
        self._seats.quit(now)

    @property
    def is_quit(self) -> bool:
        """Whether there is nothing left to hand over or to send."""
        return not self._state.seats_by_ticket and not self.outgoing

    # --- the ledger -----------------------------------------------------------------------------------------------

    def begin(self, name: str) -> list[Command[C]]:
        """Begin a new life as ``name``, because Redis was restarted or the ledger has removed this node.

        The node claims its clients' seats again. What it knows of peers at other nodes is unconfirmed until the
        ledger is ``settle`` seconds old.
        """
        self.read = self.heard = 0
        return self._recovery.restart(name)

    def hear(self, number: int, line: bytes, text: bytes | None, now: float) -> Sequence[Command[C]]:
        """Process the next entry of the inbox.

        Raises:
            InboxBroken: ``number`` is not the next one, or the ledger did not write the entry.
        """
        if number != self.read + 1:
            raise InboxBroken(f"entry {number} of the inbox came after {self.read}")
        self.read = number
        if text is not None:
            self.heard += len(text)
        try:
            event = messages.read(line, text)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise InboxBroken(f"entry {number} of the inbox is malformed: {line[:80]!r}") from None
        return self._handlers[type(event)](event, now)

    def take(self, *, empty: bool = False) -> Batch | None:
        """The next batch for the ledger; with ``empty`` also one without operations, as a heartbeat.

        The shell calls ``outgoing.done`` when the batch was answered.
        """
        return self.outgoing.take(empty=empty)
