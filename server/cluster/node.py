"""One node of a cluster: its clients, and what it knows of the others (docs/decisions/0014). PURE: no I/O, no clock.

As ``room.Rooms`` it is told what happened and answers with commands for its shell. Beside these it says operations
to the ledger (``outgoing``), and hears what the ledger decided from its inbox (``hear``), entry by entry.

THE LAW: a room that this node is a member of is, at each entry of the inbox, what it was in the ledger when that
entry was written; and only the inbox changes it. So what somebody was told, plus the notices since, is always the
room without himself, whichever nodes the others are at. ("converging views")

| what happens                | here                                                                               |
|-----------------------------|------------------------------------------------------------------------------------|
| join                        | say it; again after 3 s; give up after ``join_timeout``, 1013                      |
| join with the key of a seat | the owner is back: let in at once, and say it. The ledger may be away              |
|   that is here              |                                                                                    |
| joined                      | list and notice, unless somebody has to hand over; for nobody who is there: leave  |
| moved                       | 4001; hand over what waits; settle                                                 |
| ask                         | ping the holder; alive: denied. Not in time: 4001, leave, and they join again      |
| close, drop, grace is over  | as in ``room``, by leave; the others are told when the ledger says gone            |
| a frame to a seat here      | straight to it                                                                     |
| a frame to another node     | say it; the ledger knows whose the seat is at that moment                          |

ORDER between two peers, while one moves from node 1 to node 2: node 1 hands over what waited for it, and says so
after all that its own clients sent. Until that was heard the newcomer is not let in, so what it sends overtakes
nothing either. And node 2's own clients have frames on the way through the ledger: what they send now waits for an
echo.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from hmac import compare_digest
from math import inf
from typing import Any, Final, Generic

from peer.signaling.messages import (
    CLOSE_REPLACED,
    CLOSE_TRY_AGAIN,
    DEFAULT_ROOM,
    Envelope,
    Join,
    PeerJoined,
    PeerLeft,
)

from ..memory_budget import FRAME
from ..rooms.rooms import MAX_CLAIMS, Admit, Ask, Close, Command, Send, error_to, id_taken, octets, room_full
from . import messages
from .batch_queue import Batch, Outgoing
from .messages import NONE, key_word, room_word
from .state import C, Claim, Room, Seat, Terms

_AGAIN: Final = 1.0
"""Seconds that an answer may take beyond the holder's time to pong."""
_REPLACED: Final = "replaced by a newer connection with the same key"
_SOMEBODY: Final = "somebody else has this id now"
_TOO_LATE: Final = "the relay that has this peer is out of reach"


class InboxBroken(Exception):
    """An entry of the inbox is missing, or is none: what this node knows may be wrong, and it has to begin anew."""


class Node(Generic[C]):
    """The clients of one node.

    Args:
        name: of this life of it, TOKEN.N; nobody else's, ever.
    """

    def __init__(self, name: str, terms: Terms) -> None:
        self.name = name
        self.outgoing = Outgoing(terms.patience, terms.room)
        self._terms = terms
        self._rooms: dict[str, Room[C]] = {}
        self._seats: dict[C, Seat[C]] = {}
        self._by_ticket: dict[str, Seat[C]] = {}
        self._pending: dict[str, Claim[C]] = {}
        self._claims: dict[C, Claim[C]] = {}
        self._asked: Counter[str] = Counter()  # claims by room
        self._in_doubt: set[str] = set()
        self._settled_at = inf
        self._deadlines: list[tuple[float, int, Seat[C] | Claim[C] | None]] = []  # heap; as in room.Rooms
        self._count = 0
        self.most_seats = 0
        """Of this node, those in grace too; 0: any number."""
        self.queued = 0
        """Octets that wait for seats, and what it takes to keep them."""
        self.read = 0
        """Entries of the inbox that were heard."""
        self.heard = 0
        """Octets of their texts."""
        self._steps: dict[type[Any], Callable[[Any, float], Sequence[Command[C]]]] = {
            messages.Entered: self._entered,
            messages.Joined: self._joined,
            messages.Ward: self._ward,
            messages.Came: self._came,
            messages.Gone: self._gone,
            messages.Moved: self._moved,
            messages.Lost: self._lost,
            messages.AskFor: self._asked_for,
            messages.Denied: self._denied,
            messages.Again: self._again,
            messages.Full: self._full,
            messages.Nobody: self._nobody,
            messages.Frame: self._frame,
            messages.Broadcast: self._broadcast_heard,
            messages.Mail: self._mail,
            messages.Handed: self._handed,
            messages.Echo: self._echo,
        }

    # --- what it holds, as room.Rooms tells it --------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When ``expire`` is due, at the latest."""
        first, frames = self._deadlines[0][0] if self._deadlines else None, self.outgoing.deadline
        return min(first, frames) if first is not None and frames is not None else first if frames is None else frames

    def rooms(self) -> list[str]:
        """The rooms that this node's clients are in."""
        return [name.removeprefix("/") for name, room in self._rooms.items() if room.seats]

    def peers(self, room: str = DEFAULT_ROOM) -> list[str]:
        """The ids in ``room``, as far as this node knows; none where it has nobody."""
        found = self._rooms.get(room_word(room))
        return list(found.peers) if found else []

    def name_of(self, conn: C) -> str | None:
        """The id that ``conn`` holds."""
        seat = self._seats.get(conn)
        return seat.id if seat else None

    def room_of(self, conn: C) -> str | None:
        """The room that ``conn`` is in."""
        seat = self._seats.get(conn)
        return seat.room.name.removeprefix("/") if seat else None

    def __len__(self) -> int:
        return len(self._by_ticket)

    # --- clients --------------------------------------------------------------------------------------------------

    def join(self, conn: C, join: Join, now: float) -> list[Command[C]]:
        """``conn`` asks for a seat. The answer comes later, unless it is back where it sat."""
        assert conn not in self._seats and conn not in self._claims, "a connection joins once"
        room, key, ticket = room_word(join.room or DEFAULT_ROOM), key_word(join.key), self._ticket()
        here = self._rooms[room].seats.get(join.peer_id) if room in self._rooms else None
        said = messages.Join(room, join.peer_id, ticket, key, limit=self._terms.most_peers)
        if here is not None and key != NONE and compare_digest(here.key, key):
            if here.said is not None and here.said.waits:  # the ledger was not told of the last time: once will do
                commands = self._return(here, conn, here.ticket)
            else:
                item = self.outgoing.say(said)
                commands = self._return(here, conn, ticket)
                here.said = item
            here.ask_again_at = self._at(now + self._terms.takeover_ping + _AGAIN, here)
            return commands
        if (why := self._no_room(room)) is not None:
            return room_full(conn, why)
        again_at = self._terms.takeover_ping + _AGAIN
        claim = Claim(conn, said, self.outgoing.say(said), now + again_at, now + self._terms.join_timeout)
        self._pending[ticket] = self._claims[conn] = claim
        self._asked[room] += 1
        self._at(min(claim.again_at, claim.give_up_at), claim)
        return []

    def route(self, conn: C, envelope: Envelope, text: bytes, now: float) -> Sequence[Command[C]]:
        """Forward ``text``, which is untouched, to whom its envelope says (rules 4 to 6)."""
        seat = self._seats[conn]
        room, to = seat.room, envelope.to
        if envelope.from_ != seat.id:
            return [error_to(conn, "from-mismatch", f'"from" must be {seat.id}, the id that joined', to)]
        if to is None:
            return self._broadcast(seat, text, now)
        if to not in room.peers or to == seat.id:
            return [error_to(conn, "peer-not-found", "there is no such peer in the room", to)]
        here = room.seats.get(to)
        if here is None:
            if not self.outgoing.carry(messages.Deliver(room.name, seat.id, seat.ticket, to, text), now):
                return [error_to(conn, "peer-not-found", f"{_TOO_LATE}, and too much waits for it", to)]
            return ()
        if (line := here.line) is not None:
            return (Send((line,), text),)
        if not self._keep(here, text):
            return [error_to(conn, "peer-not-found", "the peer is away, and its queue is full", to)]
        return ()

    def pong(self, conn: C) -> list[Command[C]]:
        """``conn`` answered a ping: it lives, so nobody gets its seat (rule 3)."""
        seat = self._seats.get(conn)
        if seat is not None:
            self._turn_away(seat, "denied")
        return []

    def leave(self, conn: C) -> list[Command[C]]:
        """``conn`` closed cleanly: its seat is free at once, key or not."""
        claim = self._claims.get(conn)
        if claim is not None:
            self._take_claim(claim.join.ticket)  # if it is joined after all, it leaves
            self.outgoing.withdraw(claim.said)
        seat = self._seats.get(conn)
        if seat is not None:
            self._vacate(seat)
        return []

    def drop(self, conn: C, now: float) -> list[Command[C]]:
        """``conn`` was lost without a close frame: a seat with a key waits for its owner (rule 6)."""
        seat = self._seats.get(conn)
        if seat is None or seat.key == NONE or self._terms.grace <= 0:
            return self.leave(conn)
        del self._seats[conn]
        seat.conn, seat.admitted = None, False
        seat.until = self._at(now + self._terms.grace, seat)
        return []

    def expire(self, now: float) -> list[Command[C]]:
        """Do what is due. To be called when ``deadline`` is reached; any other time does no harm."""
        commands: list[Command[C]] = []
        for frame in self.outgoing.overdue(now):
            commands += self._undelivered(frame)
        while self._deadlines and self._deadlines[0][0] <= now:
            match heapq.heappop(self._deadlines)[2]:
                case Seat() as seat:
                    if self._by_ticket.get(seat.ticket) is seat:
                        commands += self._seat_due(seat, now)
                case Claim() as claim:
                    if self._pending.get(claim.join.ticket) is claim:
                        commands += self._claim_due(claim, now)
                case None:
                    commands += self._believe(now)
        return commands

    def quit(self, now: float) -> None:
        """This node stops: its seats with a key wait for their owners at another one. All connections are closed by
        the shell; it says ``words.Bye`` when ``is_quit``."""
        for claim in list(self._claims.values()):
            self.leave(claim.conn)
        for seat in list(self._by_ticket.values()):
            if seat.key == NONE or self._terms.grace <= 0:
                self._vacate(seat)
                continue
            if seat.conn is not None:
                del self._seats[seat.conn]
                seat.conn, seat.admitted = None, False
            left = self._terms.grace if seat.until is None else max(0.0, seat.until - now)
            self.outgoing.say(messages.Entrust(seat.room.name, seat.id, seat.ticket, left))

    @property
    def is_quit(self) -> bool:
        """Whether nothing is left to hand over or to say."""
        return not self._by_ticket and not self.outgoing

    # --- the ledger -----------------------------------------------------------------------------------------------

    def begin(self, name: str, now: float) -> list[Command[C]]:
        """Another life, under another name: Redis was restarted, or had given this node up. Its clients sit down
        again, and what it believed of the others is doubtful until the ledger is ``settle`` seconds old."""
        self.name, self.read, self.heard, self._settled_at = name, 0, 0, inf
        lost, waiting = self.outgoing.restart()
        commands = [command for frame in lost for command in self._undelivered(frame)]
        say = self.outgoing.say
        for room in list(self._rooms.values()):
            room.member = False
            room.doubts = room.peers.keys() - room.seats.keys()
            self._doubt(room)
            for seat in room.seats.values():
                seat.claims, seat.asked_until, seat.ask_again_at = [], None, None  # they ask again by themselves
                say(messages.Resume(room.name, seat.id, seat.ticket, seat.key))
            self._forget_if_empty(room)
        say(messages.Resumed())
        for claim in self._pending.values():
            claim.said = say(claim.join)
        for frame, since in waiting:
            sender = self._by_ticket.get(frame.ticket)
            if sender is None:
                continue
            here = sender.room.seats.get(frame.to) if isinstance(frame, messages.Deliver) else None
            if here is not None:  # it moved here meanwhile
                commands += self._to(here, here.local, frame.text) or ()
            else:
                self.outgoing.carry(frame, since)
        for seat in self._by_ticket.values():
            commands += self._resolve(seat)
        return commands

    def hear(self, number: int, line: bytes, text: bytes | None, now: float) -> Sequence[Command[C]]:
        """The next entry of the inbox.

        Raises:
            InboxBroken: it is not the next one, or the ledger did not write it.
        """
        if number != self.read + 1:
            raise InboxBroken(f"entry {number} of the inbox came after {self.read}")
        self.read = number
        if text is not None:
            self.heard += len(text)
        try:
            event = messages.read(line, text)
        except (LookupError, TypeError, ValueError, AttributeError):
            raise InboxBroken(f"entry {number} of the inbox is none: {line[:80]!r}") from None
        return self._steps[type(event)](event, now)

    def take(self, *, empty: bool = False) -> Batch | None:
        """What to say to the ledger; ``empty``: nothing too, as a beat. ``outgoing.done`` when it was answered."""
        return self.outgoing.take(empty=empty)

    # --- entries of the inbox -------------------------------------------------------------------------------------

    def _entered(self, event: messages.Entered, now: float) -> Sequence[Command[C]]:
        self._settled_at = self._at(now + max(0.0, self._terms.settle - event.age), None)
        return ()

    def _joined(self, event: messages.Joined, now: float) -> Sequence[Command[C]]:
        room, commands = self._member(event.room, event.peers, now)
        ticket = event.ticket
        claim = self._take_claim(ticket)
        commands += self._present(room, event.id)
        if claim is None:
            seat = self._by_ticket.get(ticket)
            if seat is None:  # it went away meanwhile
                self.outgoing.say(messages.Leave(room.name, event.id, ticket))
                return commands
            seat.ask_again_at = None
        else:
            here = room.seats.get(event.id)
            if here is not None and here.key == claim.join.key:  # both came at once
                if here.ask_again_at is not None:  # the other one is newer: its join is on its way
                    return [*commands, Close(claim.conn, CLOSE_REPLACED, _REPLACED)]
                return [*commands, *self._return(here, claim.conn, ticket)]
            if here is not None:  # it is not in the ledger
                commands += self._close(here, _SOMEBODY)
            seat = Seat(event.id, room, ticket, claim.join.key, claim.conn)
            room.seats[event.id] = self._by_ticket[ticket] = self._seats[claim.conn] = seat
            if event.source is None:
                commands += self._admit(seat)
        if event.source is not None:
            self._await(seat, now)
        return commands

    def _ward(self, event: messages.Ward, now: float) -> Sequence[Command[C]]:
        room, commands = self._member(event.room, event.peers, now)
        commands += self._present(room, event.id)
        if event.id in room.seats:  # its owner is back already, and said so
            return commands
        seat: Seat[C] = Seat(event.id, room, event.ticket, event.key, None)
        room.seats[event.id] = self._by_ticket[event.ticket] = seat
        seat.until = self._at(now + event.grace, seat)
        if event.source is not None:
            self._await(seat, now)
        return commands

    def _came(self, event: messages.Came, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        return () if room is None else self._present(room, event.id)

    def _gone(self, event: messages.Gone, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        if room is None:
            return ()
        commands: list[Command[C]] = []
        seat = room.seats.get(event.id)
        if seat is not None and seat.ticket == event.ticket:  # this node was silent for too long
            commands += self._close(seat, _SOMEBODY)
        commands += self._absent(room, event.id)
        self._last(room, event.last)
        return commands

    def _moved(self, event: messages.Moved, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        say, where = self.outgoing.say, (event.room, event.id, event.ticket)
        commands: list[Command[C]] = []
        seat = room.seats.get(event.id) if room is not None else None
        if seat is not None and seat.ticket == event.ticket:
            for text in self._take(seat):
                say(messages.Hand(*where, text))
            commands += self._close(seat, _REPLACED)
        say(messages.Settle(*where))
        if room is not None:
            self._last(room, event.last)
        return commands

    def _lost(self, event: messages.Lost, now: float) -> Sequence[Command[C]]:
        seat = self._by_ticket.get(event.ticket)
        return () if seat is None else self._close(seat, _SOMEBODY)

    def _asked_for(self, event: messages.AskFor, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        seat = room.seats.get(event.id) if room is not None else None
        who = (event.node, event.claim)
        if seat is None or seat.ticket != event.ticket:
            self._answer("again", who)
        elif who in seat.claims:
            pass
        elif len(seat.claims) >= MAX_CLAIMS or (seat.conn is not None and not seat.admitted):  # it came just now
            self._answer("denied", who)
        else:
            seat.claims.append(who)
            if seat.asked_until is None:
                seat.asked_until = self._at(now + self._terms.takeover_ping, seat)
                return () if seat.conn is None else (Ask(seat.conn),)
        return ()

    def _denied(self, event: messages.Denied, now: float) -> Sequence[Command[C]]:
        claim = self._take_claim(event.ticket)
        if claim is not None:
            return id_taken(claim.conn, claim.join.id)
        seat = self._by_ticket.get(event.ticket)
        return () if seat is None or seat.ask_again_at is None else self._close(seat, _SOMEBODY)

    def _again(self, event: messages.Again, now: float) -> Sequence[Command[C]]:
        if (claim := self._pending.get(event.ticket)) is not None:
            claim.said = self.outgoing.say(claim.join)
        elif (seat := self._by_ticket.get(event.ticket)) is not None and seat.ask_again_at is not None:
            self.outgoing.say(messages.Join(seat.room.name, seat.id, seat.ticket, seat.key))
        return ()

    def _full(self, event: messages.Full, now: float) -> Sequence[Command[C]]:
        why = f"the room is full, {self._terms.most_peers} is the most that it takes"
        claim = self._take_claim(event.ticket)
        if claim is not None:
            return room_full(claim.conn, why)
        seat = self._by_ticket.get(event.ticket)
        if seat is None or seat.ask_again_at is None:
            return ()
        self._end(seat)  # it was lost while its owner came back
        self._turn_away(seat, "again")
        return [] if seat.conn is None else room_full(seat.conn, why)

    def _nobody(self, event: messages.Nobody, now: float) -> Sequence[Command[C]]:
        seat = self._by_ticket.get(event.ticket)
        if seat is None or seat.conn is None or not seat.admitted:
            return ()
        return (error_to(seat.conn, "peer-not-found", "there is no such peer in the room", event.to),)

    def _frame(self, event: messages.Frame, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        seat = room.seats.get(event.to) if room is not None else None
        commands = None if seat is None else self._to(seat, seat.queue, event.text)
        if commands is None:
            self.outgoing.say(messages.Tell(event.node, f"nobody {event.ticket} {event.to}"))
            return ()
        return commands

    def _broadcast_heard(self, event: messages.Broadcast, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        if room is None:
            return ()
        lines = []
        for seat in room.seats.values():
            if (line := seat.line) is not None and seat.id != event.sender:
                lines.append(line)
            elif seat.id != event.sender:
                self._hold(seat, seat.queue, event.text)
        return (Send(lines, event.text),)

    def _mail(self, event: messages.Mail, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        seat = room.seats.get(event.id) if room is not None else None
        return () if seat is None else self._to(seat, seat.mail, event.text) or ()

    def _handed(self, event: messages.Handed, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        seat = room.seats.get(event.id) if room is not None else None  # by another ticket, if its owner came back
        return () if seat is None else self._came_in(seat, "handed")

    def _echo(self, event: messages.Echo, now: float) -> Sequence[Command[C]]:
        room = self._rooms.get(event.room)
        seat = room.seats.get(event.id) if room is not None else None
        return () if seat is None or seat.echo != event.ticket else self._came_in(seat, "echo")

    # --- what is due ----------------------------------------------------------------------------------------------

    def _seat_due(self, seat: Seat[C], now: float) -> list[Command[C]]:
        commands: list[Command[C]] = []
        if seat.awaits_until is not None and seat.awaits_until <= now:
            if "handed" in seat.awaits:  # its old node is dead, or busy
                self.outgoing.say(messages.Settle(seat.room.name, seat.id, seat.ticket))
                seat.awaits.discard("handed")
                seat.awaits_until = self._at(now + self._terms.join_timeout, seat)
            else:  # the ledger is away
                seat.awaits.clear()
            if not seat.awaits:
                commands += self._resolve(seat)
        if seat.ask_again_at is not None and seat.ask_again_at <= now:
            if seat.said is None or not seat.said.waits:  # who was not asked need not be asked again
                seat.said = self.outgoing.say(messages.Join(seat.room.name, seat.id, seat.ticket, seat.key, insist=1))
            seat.ask_again_at = self._at(now + self._terms.takeover_ping + _AGAIN, seat)
        grace_over = seat.until is not None and seat.until <= now
        unanswered = seat.asked_until is not None and seat.asked_until <= now
        if unanswered and seat.conn is not None:
            commands.append(Close(seat.conn, CLOSE_REPLACED, "did not answer; somebody else has this id now"))
        if grace_over or unanswered:
            self._vacate(seat)
        return commands

    def _claim_due(self, claim: Claim[C], now: float) -> list[Command[C]]:
        if claim.give_up_at <= now:
            self.leave(claim.conn)
            return [Close(claim.conn, CLOSE_TRY_AGAIN, "no answer from the other relays; try again")]
        claim.again_at = now + self._terms.takeover_ping + _AGAIN
        self._at(min(claim.again_at, claim.give_up_at), claim)
        if not claim.said.waits:
            claim.said = self.outgoing.say(claim.join._replace(insist=1))
        return []

    def _believe(self, now: float) -> list[Command[C]]:
        """The ledger has had time: whom it does not know is gone."""
        commands: list[Command[C]] = []
        for name in list(self._in_doubt) if self._settled_at <= now else ():
            room = self._rooms[name]
            if room.member:
                for peer in list(room.doubts):
                    commands += self._absent(room, peer)
        return commands

    # --- steps ----------------------------------------------------------------------------------------------------

    def _at(self, deadline: float, what: Seat[C] | Claim[C] | None) -> float:
        self._count += 1
        heapq.heappush(self._deadlines, (deadline, self._count, what))
        return deadline

    def _ticket(self) -> str:
        self._count += 1
        return str(self._count)

    def _no_room(self, room: str) -> str | None:
        """Why nobody more may ask for a seat here. That its room is full the ledger says."""
        most = self._terms.most_rooms
        if most and room not in self._rooms:
            asked = self._asked
            full = len(self._rooms) + len(asked) >= most and len(self._rooms.keys() | asked.keys()) >= most
            if full and room not in asked:
                return f"this relay takes no more rooms, {most} is the most"
        if self.most_seats and len(self._by_ticket) + len(self._pending) >= self.most_seats:
            return "this relay takes no more peers"
        return None

    def _take_claim(self, ticket: str) -> Claim[C] | None:
        claim = self._pending.pop(ticket, None)
        if claim is not None:
            del self._claims[claim.conn]
            room = claim.join.room
            self._asked[room] -= 1
            if not self._asked[room]:
                del self._asked[room]
        return claim

    def _return(self, seat: Seat[C], conn: C, ticket: str) -> list[Command[C]]:
        """The owner is back: the seat changes its socket, and nobody sees a peer leave or join."""
        commands: list[Command[C]] = []
        if seat.conn is not None:
            del self._seats[seat.conn]
            commands.append(Close(seat.conn, CLOSE_REPLACED, _REPLACED))
        del self._by_ticket[seat.ticket]
        self._by_ticket[ticket] = self._seats[conn] = seat
        if seat.ticket != ticket:
            seat.ticket, seat.said = ticket, None
        seat.conn, seat.admitted, seat.until = conn, False, None
        self._turn_away(seat, "again")
        return commands if seat.awaits else commands + self._admit(seat)

    def _admit(self, seat: Seat[C]) -> list[Command[C]]:
        assert seat.conn is not None
        seat.admitted = True
        peers = tuple(peer for peer in seat.room.peers if peer != seat.id)
        return [Admit(seat.conn, peers), *(Send((seat.conn,), text) for text in self._take(seat))]

    def _await(self, seat: Seat[C], now: float) -> None:
        seat.awaits, seat.echo = {"handed", "echo"}, seat.ticket
        seat.awaits_until = self._at(now + self._terms.handover, seat)
        self.outgoing.say(messages.Tell(self.name, f"echo {seat.room.name} {seat.id} {seat.ticket}"))

    def _came_in(self, seat: Seat[C], what: str) -> list[Command[C]]:
        if what not in seat.awaits:
            return []
        seat.awaits.discard(what)
        return [] if seat.awaits else self._resolve(seat)

    def _resolve(self, seat: Seat[C]) -> list[Command[C]]:
        """Nothing must come first any more."""
        seat.awaits, seat.awaits_until = set(), None
        if seat.conn is None:
            seat.queue, seat.mail, seat.local = [*seat.mail, *seat.queue, *seat.local], [], []
            return []
        if not seat.admitted:
            return self._admit(seat)
        return [Send((seat.conn,), text) for text in self._take(seat)]

    def _vacate(self, seat: Seat[C]) -> None:
        self._end(seat)
        self.outgoing.say(messages.Leave(seat.room.name, seat.id, seat.ticket))
        self._turn_away(seat, "again")

    def _close(self, seat: Seat[C], reason: str) -> list[Command[C]]:
        """The ledger says that it is somebody else's."""
        self._end(seat)
        self._turn_away(seat, "again")
        return [] if seat.conn is None else [Close(seat.conn, CLOSE_REPLACED, reason)]

    def _end(self, seat: Seat[C]) -> None:
        self._take(seat)
        del seat.room.seats[seat.id], self._by_ticket[seat.ticket]
        if seat.conn is not None:
            del self._seats[seat.conn]
        self._forget_if_empty(seat.room)

    def _turn_away(self, seat: Seat[C], answer: str) -> None:
        for who in seat.claims:
            self._answer(answer, who)
        seat.claims, seat.asked_until = [], None

    def _answer(self, answer: str, who: tuple[str, str]) -> None:
        self.outgoing.say(messages.Tell(who[0], f"{answer} {who[1]}"))

    # rooms

    def _member(self, name: str, peers: Iterable[str] | None, now: float) -> tuple[Room[C], list[Command[C]]]:
        """The ledger tells this node of the room from now on; ``peers`` is what it is, when it did not before."""
        room = self._rooms.setdefault(name, Room(name))
        room.member = True
        commands: list[Command[C]] = []
        if peers is not None:
            listed = set(peers)
            for peer in room.peers.keys() - listed - room.seats.keys():
                if now < self._settled_at:
                    room.doubts.add(peer)
                else:
                    commands += self._absent(room, peer)
            for peer in peers:
                commands += self._present(room, peer)
            self._doubt(room)
        return room, commands

    def _present(self, room: Room[C], peer: str) -> list[Command[C]]:
        if peer in room.doubts:
            room.doubts.discard(peer)
            self._doubt(room)
        if peer in room.peers:
            return []
        room.peers[peer] = None
        return [Send(room.lines(peer), octets(PeerJoined(peer)))]

    def _absent(self, room: Room[C], peer: str) -> list[Command[C]]:
        if peer in room.doubts:
            room.doubts.discard(peer)
            self._doubt(room)
        if peer not in room.peers:
            return []
        del room.peers[peer]
        return [Send(room.lines(peer), octets(PeerLeft(peer)))]

    def _last(self, room: Room[C], last: bool) -> None:
        if last:
            room.member = False
            self._forget_if_empty(room)

    def _forget_if_empty(self, room: Room[C]) -> None:
        if not room.seats and not room.member and self._rooms.get(room.name) is room:
            del self._rooms[room.name]
            room.doubts.clear()
            self._doubt(room)

    def _doubt(self, room: Room[C]) -> None:
        """While anybody is doubtful, frames to other nodes wait: the ledger would not find him."""
        if room.doubts:
            self._in_doubt.add(room.name)
            self.outgoing.holding = True
        else:
            self._in_doubt.discard(room.name)
            if not self._in_doubt and self.outgoing.holding:
                self.outgoing.release()

    # frames

    def _broadcast(self, seat: Seat[C], text: bytes, now: float) -> list[Command[C]]:
        room, lines = seat.room, []
        for other in room.seats.values():
            if other is seat:
                continue
            if (line := other.line) is not None:
                lines.append(line)
            else:
                self._keep(other, text)  # a full queue is not the sender's business: it named nobody
        if room.peers.keys() - room.seats.keys():
            self.outgoing.carry(messages.Cast(room.name, seat.id, seat.ticket, text), now)
        return [Send(lines, text)]

    def _keep(self, seat: Seat[C], text: bytes) -> bool:
        return self._hold(seat, seat.local if seat.awaits else seat.queue, text)

    def _hold(self, seat: Seat[C], lane: list[bytes], text: bytes) -> bool:
        """Let ``text`` wait in ``lane``, one of the three of ``seat``. False: it does not fit."""
        size, queues = len(text) + FRAME, self._terms.queues
        if seat.queued + len(text) > self._terms.queue or (queues and self.queued + size > queues):
            return False
        lane.append(text)
        seat.queued += len(text)
        self.queued += size
        return True

    def _take(self, seat: Seat[C]) -> list[bytes]:
        self.queued -= seat.held
        return seat.take()

    def _to(self, seat: Seat[C], lane: list[bytes], text: bytes) -> Sequence[Command[C]] | None:
        """Send, or keep in ``lane``; None: it does not fit."""
        if (line := seat.line) is not None:
            return (Send((line,), text),)
        if not seat.awaits:
            lane = seat.queue
        return () if self._hold(seat, lane, text) else None

    def _undelivered(self, frame: messages.Deliver | messages.Cast) -> Sequence[Command[C]]:
        seat = self._by_ticket.get(frame.ticket)
        if seat is None or seat.conn is None or not seat.admitted or isinstance(frame, messages.Cast):
            return ()
        return (error_to(seat.conn, "peer-not-found", _TOO_LATE, frame.to),)
