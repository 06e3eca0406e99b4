"""Who is in which room, and who gets which frame (docs/protocol.md, rules 1 to 6). PURE: no await, no clock, no I/O.

The shell says what happened and at what time; the answer is a list of commands for it to run in order. A
connection is whatever hashable thing the shell likes to use; it is only ever compared and handed back.

THE LAW: every event changes the membership and speaks of it in one step (rule 1), so the ``peer-list`` somebody got,
plus the notices since, is always the room without himself: nobody missed, nobody seen twice. ("converging views")

A seat is an id in a room. It is free; held by a connection; asked, when somebody else wants it and its holder was
pinged (rule 3); or away, when the socket of a seat with a key was lost (rule 6). It may be away and asked.

| what happens             | held                       | asked                      | away                         |
|--------------------------|----------------------------|----------------------------|------------------------------|
| join with its key        | old closed 4001; list      | the same; judge the claims | held; list, then its queue   |
| join without it          | asked: Ask; the claim waits| the claim waits too        | asked, with nobody to ping:  |
|                          |                            |                            | the owner has that long      |
| pong                     | -                          | held; all claims id-taken  | -                            |
| close; drop without a key| free; left                 | free; left; judge          | -                            |
| drop with a key          | away                       | away and asked             | -                            |
| nobody answered in time  | -                          | 4001, free; left; judge    | free; left; judge            |
| grace is over            | -                          | -                          | free; left; judge            |
| a frame to it            | sent                       | sent                       | queued                       |

A join of a free seat: held; "list" is ``Admit``: the one who joined gets ``peer-list``, and ``peer-joined`` goes to
the others ("left" is ``peer-left`` to them). To judge the claims is to let them join again, in the order in which
they came.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final, Generic, NamedTuple, TypeVar

from peer.signaling.messages import (
    CLOSE_BAD_JOIN,
    CLOSE_ID_TAKEN,
    CLOSE_REPLACED,
    DEFAULT_ROOM,
    Envelope,
    Error,
    Join,
    Message,
    PeerJoined,
    PeerLeft,
    dump,
    is_valid_id,
)

from ..memory_budget import FRAME

MAX_CLAIMS: Final = 8
"""How many may wait for one id while its holder is asked; the next one is told ``id-taken`` at once."""

C = TypeVar("C", bound=Hashable)


# --- commands -------------------------------------------------------------------------------------------------


class Admit(NamedTuple, Generic[C]):
    """This connection has its seat: from now on its frames are routed. Its ``peer-list`` is sent before all else;
    the shell makes it, because what else stands in there is not the rooms' business."""

    conn: C
    peers: tuple[str, ...]
    """Who is there, without itself."""


class Send(NamedTuple, Generic[C]):
    """The same frame to all of ``to``. ``text`` is UTF-8, so that what is forwarded is never encoded again."""

    to: Sequence[C]
    text: bytes


class Ask(NamedTuple, Generic[C]):
    """Ping this connection, and report any pong with ``Rooms.pong`` (rule 3)."""

    conn: C


class Close(NamedTuple, Generic[C]):
    """Close this connection. It holds nothing here any more; its end need not be reported."""

    conn: C
    code: int
    reason: str


Command = Admit[C] | Send[C] | Ask[C] | Close[C]


# --- state ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Seat(Generic[C]):
    id: str
    room: str
    others: dict[str, _Seat[C]]
    """All seats of the room, this one too."""
    key: str | None
    conn: C | None
    """None: away (rule 6)."""
    until: float | None = None
    """Away until then."""
    asked_until: float | None = None
    """The holder has until then to answer (rule 3)."""
    claims: list[tuple[C, Join]] = field(default_factory=list)
    queue: list[bytes] = field(default_factory=list)
    queued: int = 0
    """Octets in ``queue``."""


class Rooms(Generic[C]):
    """All rooms of one relay.

    Args:
        grace: seconds a seat with a key outlives its socket; 0 turns that off.
        takeover_ping: seconds the holder of an id has to answer.
        queue: octets that may wait for one seat in grace.
        queues: for all of them together; 0: any number.
        most_rooms, most_peers: at once, and in one room; 0: any number.
    """

    def __init__(
        self,
        *,
        grace: float,
        takeover_ping: float,
        queue: int,
        queues: int = 0,
        most_rooms: int = 0,
        most_peers: int = 0,
    ) -> None:
        self._grace = grace
        self._takeover_ping = takeover_ping
        self._queue = queue
        self._queues = queues
        self._most_rooms = most_rooms
        self._most_peers = most_peers
        self.most_seats = 0
        """In all rooms together, those in grace too; 0: any number."""
        self.queued = 0
        """Octets that wait for seats in grace, and what it takes to keep them."""
        self._taken = 0
        self._rooms: dict[str, dict[str, _Seat[C]]] = {}
        self._seats: dict[C, _Seat[C]] = {}
        self._claims: dict[C, _Seat[C]] = {}
        self._deadlines: list[tuple[float, int, _Seat[C]]] = []  # heap; entries that no longer hold stay until due
        self._count = 0

    @property
    def deadline(self) -> float | None:
        """When ``expire`` is due, at the latest."""
        return self._deadlines[0][0] if self._deadlines else None

    def rooms(self) -> list[str]:
        """The rooms that exist: somebody is in each."""
        return list(self._rooms)

    def peers(self, room: str = DEFAULT_ROOM) -> list[str]:
        """The ids in ``room``, in the order in which they joined; those in grace too."""
        return list(self._rooms.get(room, ()))

    def name(self, conn: C) -> str | None:
        """The id that ``conn`` holds."""
        seat = self._seats.get(conn)
        return seat.id if seat else None

    def room(self, conn: C) -> str | None:
        """The room that ``conn`` is in."""
        seat = self._seats.get(conn)
        return seat.room if seat else None

    def __len__(self) -> int:
        return self._taken

    # --- events -----------------------------------------------------------------------------------------------

    def join(self, conn: C, join: Join, now: float) -> list[Command[C]]:
        """``conn`` asks for a seat. The answer may come later: when the holder was asked."""
        assert conn not in self._seats and conn not in self._claims, "a connection joins once"
        room = join.room or DEFAULT_ROOM
        seat = self._rooms.get(room, {}).get(join.peer_id)
        if seat is None:
            full = self._full(room)
            return room_full(conn, full) if full else self._sit(conn, join, room)
        if _same(seat.key, join.key):
            return self._return(conn, seat, now)
        if len(seat.claims) >= MAX_CLAIMS:
            return id_taken(conn, seat.id)
        seat.claims.append((conn, join))
        self._claims[conn] = seat
        if seat.asked_until is not None:
            return []
        seat.asked_until = self._at(now + self._takeover_ping, seat)
        return [] if seat.conn is None else [Ask(seat.conn)]

    def route(self, conn: C, envelope: Envelope, text: bytes) -> Sequence[Command[C]]:
        """Forward ``text``, which is untouched, to whom its envelope says (rules 4 to 6)."""
        seat = self._seats[conn]
        if envelope.from_ != seat.id:
            return [error_to(conn, "from-mismatch", f'"from" must be {seat.id}, the id that joined', envelope.to)]
        if envelope.to is None:
            return self._broadcast(seat, text)
        target = seat.others.get(envelope.to)
        if target is None or target is seat:
            return [error_to(conn, "peer-not-found", "there is no such peer in the room", envelope.to)]
        if target.conn is not None:
            return (Send((target.conn,), text),)
        if not self._enqueue(target, text):
            return [error_to(conn, "peer-not-found", "the peer is away, and its queue is full", envelope.to)]
        return ()

    def pong(self, conn: C) -> list[Command[C]]:
        """``conn`` answered a ping: it lives, so nobody gets its seat (rule 3)."""
        seat = self._seats.get(conn)
        if seat is None or seat.asked_until is None:
            return []
        commands: list[Command[C]] = []
        for claimant, _ in self._take_claims(seat):
            commands += id_taken(claimant, seat.id)
        return commands

    def leave(self, conn: C, now: float) -> list[Command[C]]:
        """``conn`` closed cleanly: its seat is free at once, key or not."""
        seat = self._seats.get(conn)
        if seat is None:
            self._withdraw(conn)
            return []
        return self._vacate(seat, now)

    def drop(self, conn: C, now: float) -> list[Command[C]]:
        """``conn`` was lost without a close frame: a seat with a key waits for its owner (rule 6)."""
        seat = self._seats.get(conn)
        if seat is None or seat.key is None or self._grace <= 0:
            return self.leave(conn, now)
        del self._seats[conn]
        seat.conn = None
        seat.until = self._at(now + self._grace, seat)
        return []

    def expire(self, now: float) -> list[Command[C]]:
        """Do what is due. To be called when ``deadline`` is reached; any other time does no harm."""
        commands: list[Command[C]] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            seat = heapq.heappop(self._deadlines)[2]
            if seat.others.get(seat.id) is not seat:
                continue  # it was vacated meanwhile
            grace_over = seat.until is not None and seat.until <= now
            unanswered = seat.asked_until is not None and seat.asked_until <= now
            if unanswered and seat.conn is not None:
                commands.append(Close(seat.conn, CLOSE_REPLACED, "did not answer; somebody else has this id now"))
            if grace_over or unanswered:
                commands += self._vacate(seat, now)
        return commands

    # --- steps ------------------------------------------------------------------------------------------------

    def _at(self, deadline: float, seat: _Seat[C]) -> float:
        self._count += 1  # seats do not compare; equal deadlines keep their order
        heapq.heappush(self._deadlines, (deadline, self._count, seat))
        return deadline

    def _full(self, room: str) -> str | None:
        """Why nobody more may sit in ``room``."""
        if self._most_peers and len(self._rooms.get(room, ())) >= self._most_peers:
            return f"the room is full, {self._most_peers} is the most that it takes"
        if self._most_rooms and room not in self._rooms and len(self._rooms) >= self._most_rooms:
            return f"this relay takes no more rooms, {self._most_rooms} is the most"
        if self.most_seats and self._taken >= self.most_seats:
            return "this relay takes no more peers"
        return None

    def _sit(self, conn: C, join: Join, room: str) -> list[Command[C]]:
        seats = self._rooms.setdefault(room, {})
        others = [seat.conn for seat in seats.values() if seat.conn is not None]
        peers = tuple(seats)
        seats[join.peer_id] = self._seats[conn] = _Seat(join.peer_id, room, seats, join.key, conn)
        self._taken += 1
        return [
            Admit(conn, peers),
            Send(others, octets(PeerJoined(join.peer_id))),
        ]

    def _return(self, conn: C, seat: _Seat[C], now: float) -> list[Command[C]]:
        """The owner is back: the seat changes its socket, and nobody sees a peer leave or join."""
        commands: list[Command[C]] = []
        if seat.conn is not None:
            del self._seats[seat.conn]
            commands.append(Close(seat.conn, CLOSE_REPLACED, "replaced by a newer connection with the same key"))
        self._seats[conn] = seat
        seat.conn, seat.until = conn, None
        peers = tuple(peer for peer in seat.others if peer != seat.id)
        commands.append(Admit(conn, peers))
        commands += [Send((conn,), text) for text in seat.queue]
        self._forget_queue(seat)
        return commands + self._judge(self._take_claims(seat), now)

    def _vacate(self, seat: _Seat[C], now: float) -> list[Command[C]]:
        del seat.others[seat.id]
        self._taken -= 1
        self._forget_queue(seat)
        if seat.conn is not None:
            del self._seats[seat.conn]
        if not seat.others:
            del self._rooms[seat.room]
        others = [other.conn for other in seat.others.values() if other.conn is not None]
        notice: Command[C] = Send(others, octets(PeerLeft(seat.id)))
        return [notice, *self._judge(self._take_claims(seat), now)]

    def _broadcast(self, seat: _Seat[C], text: bytes) -> list[Command[C]]:
        present: list[C] = []
        for other in seat.others.values():
            if other is seat:
                continue
            if other.conn is not None:
                present.append(other.conn)
            else:
                self._enqueue(other, text)  # a full queue is not the sender's business: it named nobody
        return [Send(present, text)]

    def _enqueue(self, seat: _Seat[C], text: bytes) -> bool:
        size = len(text) + FRAME
        if seat.queued + len(text) > self._queue or (self._queues and self.queued + size > self._queues):
            return False
        seat.queue.append(text)
        seat.queued += len(text)
        self.queued += size
        return True

    def _forget_queue(self, seat: _Seat[C]) -> None:
        self.queued -= seat.queued + FRAME * len(seat.queue)
        seat.queue, seat.queued = [], 0

    def _take_claims(self, seat: _Seat[C]) -> list[tuple[C, Join]]:
        claims, seat.claims, seat.asked_until = seat.claims, [], None
        for conn, _ in claims:
            del self._claims[conn]
        return claims

    def _judge(self, claims: Iterable[tuple[C, Join]], now: float) -> list[Command[C]]:
        return [command for conn, join in claims for command in self.join(conn, join, now)]

    def _withdraw(self, conn: C) -> None:
        seat = self._claims.pop(conn, None)
        if seat is not None:
            seat.claims = [claim for claim in seat.claims if claim[0] != conn]
            if not seat.claims:
                seat.asked_until = None


def _same(one: str | None, other: str | None) -> bool:
    """Whether two joins brought the same key, in constant time."""
    if one is None or other is None:
        return False
    # surrogatepass: JSON may bring half a character
    return compare_digest(one.encode(errors="surrogatepass"), other.encode(errors="surrogatepass"))


def octets(message: Message) -> bytes:
    return dump(message).encode()


def error_to(conn: C, code: str, message: str, to: str | None = None) -> Send[C]:
    # what is no id is not echoed: it may be as long as a frame
    return Send((conn,), octets(Error(code, message, to if is_valid_id(to) else None)))


def id_taken(conn: C, peer_id: str) -> list[Command[C]]:
    return [error_to(conn, "id-taken", f"{peer_id} is in the room already"), Close(conn, CLOSE_ID_TAKEN, "id taken")]


def room_full(conn: C, why: str) -> list[Command[C]]:
    return [error_to(conn, "room-full", why), Close(conn, CLOSE_BAD_JOIN, why)]
