"""Rooms of one relay: their seats, and the routing of messages (docs/protocol.md, rules 1 to 6). Pure.

The shell reports events and their time, and executes the returned commands in order. A connection is any hashable
object of the shell. It is only compared and returned.

Invariant ("converging views"): each event changes the membership and produces the notices in one step (rule 1).
A client's ``peer-list`` plus the notices since is therefore always the room without the client itself: no peer is
missing, and none is reported twice.

A seat is an id in a room. It is free; held by a connection; contested, if another client claims it and its holder was
pinged (rule 3); or in grace, if it has a key and its connection was lost (rule 6). A seat may be in grace and
contested.

| event                    | held                       | contested                  | in grace                     |
|--------------------------|----------------------------|----------------------------|------------------------------|
| join with its key        | old closed 4001; list      | the same; retry the claims | held; list, then its queue   |
| ... by another instance  | old closed 4001; left;     | the same; retry the claims | its queue is discarded; left;|
|                          | list; joined               |                            | list; joined                 |
| join without the key     | contested: Ping; the claim | the claim waits            | contested without a ping: the|
|                          | waits                      |                            | owner has the same time      |
| pong                     | -                          | held; all claims id-taken  | -                            |
| close; drop without a key| free; left                 | free; left; retry          | -                            |
| drop with a key          | in grace                   | in grace and contested     | -                            |
| no pong in time          | -                          | 4001, free; left; retry    | free; left; retry            |
| end of grace             | -                          | -                          | free; left; retry            |
| message to the seat      | sent                       | sent                       | queued                       |

After a join of a free seat it is held, with list and joined. "list" is ``Admit``: the client is sent ``peer-list``.
"joined" and "left" are ``peer-joined`` and ``peer-left`` to the others. "retry": the claiming clients join again, in
their order.
"""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, TypeVar

from peer.signaling.message_json import dump
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
    is_valid_id,
)

from ..memory_budget import MESSAGE_OVERHEAD

MAX_CLAIMS: Final = 8
"""Maximum number of clients waiting for one id while its holder is pinged; the next one gets ``id-taken`` at once.

Limits the memory that a client can occupy by claiming ids in a loop."""

C = TypeVar("C", bound=Hashable)


# --- commands -------------------------------------------------------------------------------------------------


class Admit(NamedTuple, Generic[C]):
    """The connection has its seat, and its messages are routed from now on.

    The shell sends ``peer-list`` before anything else, because it adds the ICE servers to it.
    """

    conn: C
    peers: tuple[str, ...]
    """The ids of the other peers in the room."""
    instances: Mapping[str, str] = MappingProxyType({})
    """``instance`` by id, of those that have one."""


class Send(NamedTuple, Generic[C]):
    """Send one message to all of ``to``. ``text`` is UTF-8, so a forwarded message is not encoded again."""

    to: Sequence[C]
    text: bytes


class Ping(NamedTuple, Generic[C]):
    """Ping this connection, and report any pong with ``Rooms.pong`` (rule 3)."""

    conn: C


class Close(NamedTuple, Generic[C]):
    """Close this connection. It holds no seat and no claim any more, and its end need not be reported."""

    conn: C
    code: int
    reason: str


Command = Admit[C] | Send[C] | Ping[C] | Close[C]


# --- state ----------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Seat(Generic[C]):
    id: str
    room: str
    others: dict[str, _Seat[C]]
    """All seats of the room by id, this one included."""
    key: str | None
    instance: str | None
    """Distinguishes the process that holds the seat from others with the same key (rule 3)."""
    conn: C | None
    """``None`` while the seat is in grace (rule 6)."""
    grace_until: float | None = None
    """End of grace; ``None`` while the seat has a connection."""
    pong_until: float | None = None
    """When a contested seat is freed, unless its holder answers the ping before (rule 3)."""
    claims: list[tuple[C, Join]] = field(default_factory=list)
    queue: list[bytes] = field(default_factory=list)
    queued: int = 0
    """Size of the messages in ``queue``, in bytes."""


class Rooms(Generic[C]):
    """All rooms of one relay.

    Args:
        grace: how long a seat with a key outlives its connection, in seconds; 0: not at all.
        takeover_ping: time for the holder of an id to answer a ping, in seconds.
        max_seat_queue: maximum size of the messages queued for one seat in grace, in bytes.
        max_seat_queues: the same for all seats together, with the overhead of each message; 0: no limit.
        max_rooms: maximum number of rooms; 0: no limit.
        max_room_peers: maximum number of peers in one room; 0: no limit.
    """

    def __init__(
        self,
        *,
        grace: float,
        takeover_ping: float,
        max_seat_queue: int,
        max_seat_queues: int = 0,
        max_rooms: int = 0,
        max_room_peers: int = 0,
    ) -> None:
        self._grace = grace
        self._takeover_ping = takeover_ping
        self._max_seat_queue = max_seat_queue
        self._max_seat_queues = max_seat_queues
        self._max_rooms = max_rooms
        self._max_room_peers = max_room_peers
        self.max_seats = 0
        """Maximum number of seats in all rooms together, those in grace included; 0: no limit."""
        self.queued = 0
        """Size of the messages queued for seats in grace, with their overhead, in bytes."""
        self._seat_count = 0
        self._rooms: dict[str, dict[str, _Seat[C]]] = {}
        self._seats: dict[C, _Seat[C]] = {}
        self._claims: dict[C, _Seat[C]] = {}
        self._deadlines: list[tuple[float, int, _Seat[C]]] = []  # heap; outdated entries stay until due
        self._count = 0

    @property
    def deadline(self) -> float | None:
        """The time at which ``expire`` is due."""
        return self._deadlines[0][0] if self._deadlines else None

    def rooms(self) -> list[str]:
        """Return the names of all rooms. A room exists while it has a seat."""
        return list(self._rooms)

    def peers(self, room: str = DEFAULT_ROOM) -> list[str]:
        """Return the ids in ``room`` in the order of their joins, those in grace included."""
        return list(self._rooms.get(room, ()))

    def name(self, conn: C) -> str | None:
        """Return the id that ``conn`` holds, or ``None``."""
        seat = self._seats.get(conn)
        return seat.id if seat else None

    def room(self, conn: C) -> str | None:
        """Return the name of the room that ``conn`` is in, or ``None``."""
        seat = self._seats.get(conn)
        return seat.room if seat else None

    def __len__(self) -> int:
        return self._seat_count

    # --- events -----------------------------------------------------------------------------------------------

    def join(self, conn: C, join: Join, now: float) -> list[Command[C]]:
        """Process a join. If the seat is contested, the answer follows later."""
        assert conn not in self._seats and conn not in self._claims, "a connection joins once"
        room = join.room or DEFAULT_ROOM
        seat = self._rooms.get(room, {}).get(join.peer_id)
        if seat is None:
            why = self._full(room)
            return room_full(conn, why) if why else self._take_seat(conn, join, room)
        if _same_key(seat.key, join.key):
            if seat.instance == join.instance:
                return self._return(conn, seat, now)
            return self._replace(conn, join, seat, now)
        if len(seat.claims) >= MAX_CLAIMS:
            return id_taken(conn, seat.id)
        seat.claims.append((conn, join))
        self._claims[conn] = seat
        if seat.pong_until is not None:
            return []
        seat.pong_until = self._at(now + self._takeover_ping, seat)
        return [] if seat.conn is None else [Ping(seat.conn)]

    def route(self, conn: C, envelope: Envelope, text: bytes) -> Sequence[Command[C]]:
        """Forward ``text``, unchanged, to the recipients in its envelope (rules 4 to 6)."""
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
            return [error_to(conn, "peer-not-found", "the peer is disconnected, and its queue is full", envelope.to)]
        return ()

    def pong(self, conn: C) -> list[Command[C]]:
        """Process a pong: ``conn`` keeps its seat (rule 3)."""
        seat = self._seats.get(conn)
        if seat is None or seat.pong_until is None:
            return []
        commands: list[Command[C]] = []
        for claimant, _ in self._take_claims(seat):
            commands += id_taken(claimant, seat.id)
        return commands

    def leave(self, conn: C, now: float) -> list[Command[C]]:
        """Process a clean close: free the seat of ``conn`` at once, with or without a key."""
        seat = self._seats.get(conn)
        if seat is None:
            self._withdraw(conn)
            return []
        return self._vacate(seat, now)

    def drop(self, conn: C, now: float) -> list[Command[C]]:
        """Process the loss of ``conn`` without a close frame: a seat with a key enters grace (rule 6)."""
        seat = self._seats.get(conn)
        if seat is None or seat.key is None or self._grace <= 0:
            return self.leave(conn, now)
        del self._seats[conn]
        seat.conn = None
        seat.grace_until = self._at(now + self._grace, seat)
        return []

    def expire(self, now: float) -> list[Command[C]]:
        """Process the deadlines that have passed. The shell calls this at ``deadline``; other times do no harm."""
        commands: list[Command[C]] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            seat = heapq.heappop(self._deadlines)[2]
            if seat.others.get(seat.id) is not seat:
                continue  # it was freed in the meantime
            grace_over = seat.grace_until is not None and seat.grace_until <= now
            unanswered = seat.pong_until is not None and seat.pong_until <= now
            if unanswered and seat.conn is not None:
                commands.append(Close(seat.conn, CLOSE_REPLACED, "no answer; another client has this id now"))
            if grace_over or unanswered:
                commands += self._vacate(seat, now)
        return commands

    # --- steps ------------------------------------------------------------------------------------------------

    def _at(self, deadline: float, seat: _Seat[C]) -> float:
        self._count += 1  # seats are not comparable; equal deadlines keep their order
        heapq.heappush(self._deadlines, (deadline, self._count, seat))
        return deadline

    def _full(self, room: str) -> str | None:
        """Return why ``room`` accepts no more peers, or ``None``."""
        if self._max_room_peers and len(self._rooms.get(room, ())) >= self._max_room_peers:
            return f"the room is full: its limit is {self._max_room_peers}"
        if self._max_rooms and room not in self._rooms and len(self._rooms) >= self._max_rooms:
            return f"this relay accepts no more rooms: its limit is {self._max_rooms}"
        if self.max_seats and self._seat_count >= self.max_seats:
            return f"this relay accepts no more peers: its limit is {self.max_seats}"
        return None

    def _take_seat(self, conn: C, join: Join, room: str) -> list[Command[C]]:
        seats = self._rooms.setdefault(room, {})
        others = [seat.conn for seat in seats.values() if seat.conn is not None]
        admit = Admit(conn, tuple(seats), _instances(seats.values()))
        seats[join.peer_id] = self._seats[conn] = _Seat(join.peer_id, room, seats, join.key, join.instance, conn)
        self._seat_count += 1
        return [admit, Send(others, encode(PeerJoined(join.peer_id, join.instance)))]

    def _return(self, conn: C, seat: _Seat[C], now: float) -> list[Command[C]]:
        """Give ``seat`` to ``conn``, a new connection of its owner, without notices to other peers."""
        commands = self._close_replaced(seat)
        self._seats[conn] = seat
        seat.conn, seat.grace_until = conn, None
        others = [other for other in seat.others.values() if other is not seat]
        commands.append(Admit(conn, tuple(other.id for other in others), _instances(others)))
        commands += [Send((conn,), text) for text in seat.queue]
        self._clear_queue(seat)
        return commands + self._retry(self._take_claims(seat), now)

    def _replace(self, conn: C, join: Join, seat: _Seat[C], now: float) -> list[Command[C]]:
        """Give ``seat`` to ``conn``, a new process of its owner: for the others, the peer leaves and joins."""
        commands = self._close_replaced(seat)
        claims = self._take_claims(seat)  # they must not get the seat in between
        commands += self._vacate(seat, now)
        commands += self._take_seat(conn, join, seat.room)
        return commands + self._retry(claims, now)

    def _close_replaced(self, seat: _Seat[C]) -> list[Command[C]]:
        if seat.conn is None:
            return []
        conn, seat.conn = seat.conn, None
        del self._seats[conn]
        return [Close(conn, CLOSE_REPLACED, "replaced by a newer connection with the same key")]

    def _vacate(self, seat: _Seat[C], now: float) -> list[Command[C]]:
        del seat.others[seat.id]
        self._seat_count -= 1
        self._clear_queue(seat)
        if seat.conn is not None:
            del self._seats[seat.conn]
        if not seat.others:
            del self._rooms[seat.room]
        others = [other.conn for other in seat.others.values() if other.conn is not None]
        notice: Command[C] = Send(others, encode(PeerLeft(seat.id)))
        return [notice, *self._retry(self._take_claims(seat), now)]

    def _broadcast(self, seat: _Seat[C], text: bytes) -> list[Command[C]]:
        present: list[C] = []
        for other in seat.others.values():
            if other is seat:
                continue
            if other.conn is not None:
                present.append(other.conn)
            else:
                self._enqueue(other, text)  # no error if the queue is full: the sender named no recipient
        return [Send(present, text)]

    def _enqueue(self, seat: _Seat[C], text: bytes) -> bool:
        size = len(text) + MESSAGE_OVERHEAD
        if seat.queued + len(text) > self._max_seat_queue or (
            self._max_seat_queues and self.queued + size > self._max_seat_queues
        ):
            return False
        seat.queue.append(text)
        seat.queued += len(text)
        self.queued += size
        return True

    def _clear_queue(self, seat: _Seat[C]) -> None:
        self.queued -= seat.queued + MESSAGE_OVERHEAD * len(seat.queue)
        seat.queue, seat.queued = [], 0

    def _take_claims(self, seat: _Seat[C]) -> list[tuple[C, Join]]:
        claims, seat.claims, seat.pong_until = seat.claims, [], None
        for conn, _ in claims:
            del self._claims[conn]
        return claims

    def _retry(self, claims: Iterable[tuple[C, Join]], now: float) -> list[Command[C]]:
        return [command for conn, join in claims for command in self.join(conn, join, now)]

    def _withdraw(self, conn: C) -> None:
        seat = self._claims.pop(conn, None)
        if seat is not None:
            seat.claims = [claim for claim in seat.claims if claim[0] != conn]
            if not seat.claims:
                seat.pong_until = None


def _instances(seats: Iterable[_Seat[Any]]) -> dict[str, str]:
    return {seat.id: seat.instance for seat in seats if seat.instance is not None}


def _same_key(one: str | None, other: str | None) -> bool:
    """Whether two joins have the same key. Takes constant time."""
    if one is None or other is None:
        return False
    # surrogatepass: JSON may contain a lone surrogate
    return compare_digest(one.encode(errors="surrogatepass"), other.encode(errors="surrogatepass"))


def encode(message: Message) -> bytes:
    return dump(message).encode()


def error_to(conn: C, code: str, message: str, to: str | None = None) -> Send[C]:
    # an invalid id is not echoed: it may be as long as a message
    return Send((conn,), encode(Error(code, message, to if is_valid_id(to) else None)))


def id_taken(conn: C, peer_id: str) -> list[Command[C]]:
    return [error_to(conn, "id-taken", f"{peer_id} is in the room already"), Close(conn, CLOSE_ID_TAKEN, "id taken")]


def room_full(conn: C, why: str) -> list[Command[C]]:
    return [error_to(conn, "room-full", why), Close(conn, CLOSE_BAD_JOIN, why)]
