"""State of one cluster node: its rooms, seats and claims, their deadlines and its outgoing operations. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..memory_budget import MESSAGE_OVERHEAD
from . import messages
from .batch_queue import BatchQueue, QueuedOperation

C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Limits and time-outs of a cluster node. Times in seconds, sizes in bytes."""

    grace: float
    """How long a seat with a key outlives its connection (rule 6)."""
    takeover_ping: float
    """Time for the holder of a seat to answer a ping (rule 3)."""
    max_seat_queue: int
    """Maximum size of the messages queued for one seat."""
    max_seat_queues: int = 0
    """Maximum size of the messages queued for all seats, with their overhead; 0: no limit."""
    max_rooms: int = 0
    """Maximum number of rooms with peers of this node; 0: no limit."""
    max_room_peers: int = 0
    """Maximum number of peers in one room, at all nodes together; 0: no limit."""
    join_timeout: float
    """How long a join waits for the ledger."""
    message_timeout: float
    """How long a message waits for the ledger."""
    max_messages: int
    """Maximum size of the messages that wait for the ledger."""
    settle_time: float
    """Age from which a ledger is assumed to contain all peers."""
    handover_timeout: float
    """How long a seat that moved here waits for the messages queued at its previous node."""


@dataclass(slots=True, eq=False)
class Seat(Generic[C]):
    """A seat at this node: assigned by the ledger, or in a join or resume on its way to the ledger."""

    id: str
    room: Room[C]
    ticket: str
    """Number of the join by which this node got the seat. The ledger compares it before it acts on the seat."""
    key: str
    instance: str
    """Distinguishes the process of the owner, in the ledger's form."""
    conn: C | None
    """``None`` while the seat is in grace (rule 6)."""
    admitted: bool = False
    """Whether ``conn`` was sent its peer list."""
    grace_until: float | None = None
    """End of grace; ``None`` while the seat has a connection."""
    pong_until: float | None = None
    """When the holder loses the seat to the oldest claim, unless it answers the ping before (rule 3)."""
    claims: list[tuple[str, str]] = field(default_factory=list)
    """Joins without the key that wait for the answer to the ping: node and ticket of each."""
    rejoin: QueuedOperation | None = None
    """The queued join of an owner that has returned."""
    confirm_until: float | None = None
    """When the join is sent again, because the ledger has not yet confirmed it; ``None`` once it has."""
    awaits: set[str] = field(default_factory=set)
    """What must arrive before messages are delivered after a move: ``handed``, ``echo``."""
    awaits_until: float | None = None
    echo: str = ""
    """The ticket that the expected echo carries."""
    handed: list[bytes] = field(default_factory=list)
    """Messages handed over by the previous node."""
    queue: list[bytes] = field(default_factory=list)
    """Messages received through the ledger; for a seat in grace, all messages."""
    local: list[bytes] = field(default_factory=list)
    """Messages from this node's own clients since the seat moved here."""
    queued: int = 0
    """Size of the messages in the three queues, in bytes."""

    @property
    def reachable(self) -> C | None:
        """The connection, if a message can be sent to it at once."""
        return self.conn if self.admitted and not self.awaits else None

    @property
    def memory(self) -> int:
        """Size of the queued messages with their overhead, in bytes."""
        return self.queued + MESSAGE_OVERHEAD * (len(self.handed) + len(self.queue) + len(self.local))

    def take(self) -> list[bytes]:
        """Empty the three queues and return their messages; those of each sender are in order."""
        texts = [*self.handed, *self.queue, *self.local]
        self.handed, self.queue, self.local, self.queued = [], [], [], 0
        return texts


@dataclass(slots=True, eq=False)
class Room(Generic[C]):
    """A room with seats at this node."""

    name: str
    peers: dict[str, str] = field(default_factory=dict)
    """All peers in the room, at any node, according to the inbox: id to instance, in order of arrival there."""
    seats: dict[str, Seat[C]] = field(default_factory=dict)
    """The seats at this node, by id."""
    subscribed: bool = False
    """Whether the ledger reports changes of the room to this node."""
    unconfirmed: set[str] = field(default_factory=set)
    """Peers known from before a restart that the new ledger has not reported yet."""

    def others(self, peer: str) -> list[C]:
        """Return the connections to notify about ``peer``: all admitted ones except its own."""
        return [
            seat.conn for seat in self.seats.values() if seat.conn is not None and seat.admitted and seat.id != peer
        ]


@dataclass(slots=True, eq=False)
class Claim(Generic[C]):
    """A client whose join waits for the ledger's answer."""

    conn: C
    join: messages.Join
    queued: QueuedOperation
    """The join in the queue to the ledger."""
    again_at: float
    """When the join is sent again."""
    give_up_at: float


class NodeState(Generic[C]):
    """The tables that the parts of a cluster node share.

    Args:
        name: name in the ledger, TOKEN.N for its N-th registration; never used again by any node.
    """

    def __init__(self, name: str, config: NodeConfig) -> None:
        self.name = name
        self.config = config
        self.outgoing = BatchQueue(config.message_timeout, config.max_messages)
        self.rooms: dict[str, Room[C]] = {}
        self.seats: dict[C, Seat[C]] = {}
        self.seats_by_ticket: dict[str, Seat[C]] = {}
        self.claims: dict[C, Claim[C]] = {}
        self.claims_by_ticket: dict[str, Claim[C]] = {}
        self.queued = 0
        """Size of the messages queued for all seats, with their overhead, in bytes."""
        self._deadlines: list[tuple[float, int, Seat[C] | Claim[C] | None]] = []  # heap; outdated ones stay until due
        self._count = 0

    @property
    def deadline(self) -> float | None:
        """The earliest deadline that was scheduled."""
        return self._deadlines[0][0] if self._deadlines else None

    def schedule(self, deadline: float, what: Seat[C] | Claim[C] | None) -> float:
        """Add ``deadline`` for a seat, a claim or (``None``) the age of the ledger, and return it."""
        self._count += 1  # the entries are not comparable; equal deadlines keep their order
        heapq.heappush(self._deadlines, (deadline, self._count, what))
        return deadline

    def due(self, now: float) -> Iterator[Seat[C] | Claim[C] | None]:
        """Remove and yield what was scheduled up to ``now`` and still exists."""
        while self._deadlines and self._deadlines[0][0] <= now:
            match heapq.heappop(self._deadlines)[2]:
                case Seat() as seat:
                    if self.seats_by_ticket.get(seat.ticket) is seat:
                        yield seat
                case Claim() as claim:
                    if self.claims_by_ticket.get(claim.join.ticket) is claim:
                        yield claim
                case None:
                    yield None

    def new_ticket(self) -> str:
        """Return a ticket that this node has not used yet."""
        self._count += 1
        return str(self._count)

    def seat(self, room: str, id: str) -> Seat[C] | None:
        """Return the seat at this node for ``id`` in ``room``, or ``None``."""
        found = self.rooms.get(room)
        return found.seats.get(id) if found is not None else None
