"""What a relay counts as it runs. PURE: numbers only, cheap enough for every frame; ``metrics`` makes a page of them.

A label that a client could choose would be as many time series as it likes: types that are not ours count as
``other``, and codes are the relay's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from peer.signaling import messages

TYPES: Final = frozenset({"join", *messages.TARGETED_TYPES})

LIMITS: Final = frozenset(
    {
        *("messages", "octets", "copies", "address-messages", "address-octets", "address-copies"),
        *("address-sockets", "address-connects", "address-joins", "connections", "descriptors", "buffers"),
    }
)
"""Names of the limits (docs/limits.md)."""

CLOSES: Final = frozenset(
    {
        *(1001, messages.CLOSE_TRY_AGAIN, messages.CLOSE_REPLACED, messages.CLOSE_BAD_JOIN),
        *(messages.CLOSE_UNAUTHORIZED, messages.CLOSE_TOO_SLOW, messages.CLOSE_ID_TAKEN, messages.CLOSE_RATE_LIMITED),
    }
)
"""Codes that the relay closes with."""


class Histogram:
    """How often a number of seconds was at most one of ``bounds``."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """By bound, not yet added up; the last one is beyond them all."""
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class LedgerTally:
    """The same for the link to a cluster."""

    __slots__ = ("lives", "nodes", "reconnects", "round_trip_seconds", "waiting")

    def __init__(self) -> None:
        self.nodes = 0
        """Relays in the cluster, this one too, when it was last asked."""
        self.waiting = 0
        """Operations on their way to Redis."""
        self.reconnects = 0
        """How often the link broke, or could not be made."""
        self.lives = 0
        """How often the cluster did not know this relay any more."""
        self.round_trip_seconds = Histogram(0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 2.0)


class Tally:
    """Counts since the start. All only grow, but for ``outbox_high``, which is since the last look."""

    __slots__ = (
        "accepted",
        "closed",
        "credentials",
        "delivered",
        "join_seconds",
        "lag_seconds",
        "ledger",
        "limited",
        "messages",
        "octets_in",
        "octets_out",
        "outbox_high",
        "refused",
    )

    def __init__(self) -> None:
        self.accepted = 0
        """TCP connections."""
        self.messages: Counter[str] = Counter()
        """Frames that came, by type, refused ones too."""
        self.refused: Counter[str] = Counter()
        """Frames that went nowhere, by the error code that was told."""
        self.closed: Counter[int] = Counter()
        """Connections that the relay closed, by close code."""
        self.limited: Counter[str] = Counter()
        """How often a limit was exceeded, by its name."""
        self.credentials = 0
        """TURN credentials made, for joins and anew."""
        self.octets_in = 0
        """Read from sockets, all there is."""
        self.delivered = 0
        """Frames put into outboxes."""
        self.octets_out = 0
        """Octets of these."""
        self.outbox_high = 0
        """Octets in the fullest outbox."""
        self.join_seconds = Histogram(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0)
        self.lag_seconds = Histogram(0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
        self.ledger: LedgerTally | None = None
        """Of a relay in a cluster."""

    def came(self, kind: str) -> None:
        """A frame of this type came."""
        self.messages[kind if kind in TYPES else "other"] += 1

    def sent(self, frames: int, octets: int) -> None:
        """The same ``octets`` went to this many outboxes."""
        self.delivered += frames
        self.octets_out += frames * octets

    def outbox(self, waiting: int) -> None:
        """An outbox holds this many octets."""
        if waiting > self.outbox_high:
            self.outbox_high = waiting
