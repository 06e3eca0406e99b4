"""What a node of a cluster keeps of its own seats and of the rooms they are in. PURE."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ..memory_budget import FRAME
from . import messages
from .batch_queue import Item

C = TypeVar("C", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The numbers a node obeys. Seconds and octets."""

    grace: float
    """How long a seat with a key outlives its socket (rule 6)."""
    takeover_ping: float
    """How long the holder of an id has to answer (rule 3)."""
    queue: int
    """What may wait for one seat."""
    queues: int = 0
    """For all of them together, with what it takes to keep it; 0: any number."""
    most_rooms: int = 0
    """Of this node's peers; 0: any number."""
    most_peers: int = 0
    """Of one room, on all nodes together; 0: any number."""
    join_timeout: float
    """How long a join waits for the ledger."""
    patience: float
    """How long a frame waits for it."""
    room: int
    """What may wait for it in frames."""
    settle: float
    """How long a new ledger is not believed when it does not know somebody."""
    handover: float
    """How long a seat that moved here waits for what was kept for it."""


@dataclass(slots=True, eq=False)
class Seat(Generic[C]):
    """A seat of this node: what the ledger says of it, or what the node has asked the ledger to say."""

    id: str
    room: Room[C]
    ticket: str
    key: str
    conn: C | None
    """None: away (rule 6)."""
    admitted: bool = False
    """Whether ``conn`` has its list."""
    until: float | None = None
    """Away until then."""
    asked_until: float | None = None
    """The holder has until then to answer (rule 3)."""
    claims: list[tuple[str, str]] = field(default_factory=list)
    """Who asked: node and ticket."""
    said: Item | None = None
    """The join by which its owner came back, on its way to the ledger."""
    ask_again_at: float | None = None
    """The ledger has not said yet that the seat is ours."""
    awaits: set[str] = field(default_factory=set)
    """``handed``, ``echo``: what must come before frames may pass."""
    awaits_until: float | None = None
    echo: str = ""
    """The ticket it had when it began to wait."""
    mail: list[bytes] = field(default_factory=list)
    """Handed over by who held the seat."""
    queue: list[bytes] = field(default_factory=list)
    """By way of the ledger; and all that waits for a seat that is away."""
    local: list[bytes] = field(default_factory=list)
    """From this node's own clients, since the seat is here."""
    queued: int = 0
    """Octets of the three."""

    @property
    def line(self) -> C | None:
        """Whom a frame can be sent to at once."""
        return self.conn if self.admitted and not self.awaits else None

    @property
    def held(self) -> int:
        """Octets that wait, and what it takes to keep them."""
        return self.queued + FRAME * (len(self.mail) + len(self.queue) + len(self.local))

    def take(self) -> list[bytes]:
        """All that waited, of each sender in its order."""
        texts = [*self.mail, *self.queue, *self.local]
        self.mail, self.queue, self.local, self.queued = [], [], [], 0
        return texts


@dataclass(slots=True, eq=False)
class Room(Generic[C]):
    """A room that seats of this node are in."""

    name: str
    peers: dict[str, None] = field(default_factory=dict)
    """Who is in it, as far as the inbox was read; in the order in which this node heard of them."""
    seats: dict[str, Seat[C]] = field(default_factory=dict)
    """Those of this node."""
    member: bool = False
    """Whether the ledger tells this node what happens in it."""
    doubts: set[str] = field(default_factory=set)
    """Peers that a new ledger has not seen yet."""

    def lines(self, but: str) -> list[C]:
        """Who is told of ``but``: all but himself."""
        return [
            seat.conn for seat in self.seats.values() if seat.conn is not None and seat.admitted and seat.id != but
        ]


@dataclass(slots=True, eq=False)
class Claim(Generic[C]):
    """A client that has asked for a seat and has none."""

    conn: C
    join: messages.Join
    said: Item
    """The same on its way to the ledger."""
    again_at: float
    give_up_at: float
