"""Counters of a running relay, cheap enough to update for every message. Pure. ``prometheus`` makes a page of them.

All labels are defined by the relay, so a client cannot create time series: unknown message types are counted as
``other``, and the codes are the relay's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import Final

from peer.signaling import messages

MESSAGE_TYPES: Final = frozenset({"join", *messages.TARGETED_TYPES})

LIMIT_NAMES: Final = frozenset(
    {
        *("messages", "octets", "copies", "address-messages", "address-octets", "address-copies"),
        *("address-sockets", "address-connects", "address-joins", "connections", "descriptors", "buffers"),
    }
)
"""Names of the limits (docs/limits.md)."""

CLOSE_CODES: Final = frozenset(
    {
        *(1001, messages.CLOSE_PROTOCOL_ERROR, messages.CLOSE_INVALID_DATA, messages.CLOSE_TRY_AGAIN),
        *(messages.CLOSE_REPLACED, messages.CLOSE_BAD_JOIN),
        *(messages.CLOSE_UNAUTHORIZED, messages.CLOSE_TOO_SLOW, messages.CLOSE_ID_TAKEN, messages.CLOSE_RATE_LIMITED),
    }
)
"""Close codes that the relay sends."""


class Histogram:
    """Observations of a duration, counted by upper bound. ``bounds`` are in seconds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, *bounds: float) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations per bound, not cumulative; the last number is that of observations above all bounds."""
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds


class ClusterCounters:
    """Counters of the link to a cluster."""

    __slots__ = ("nodes", "reconnects", "resumptions", "round_trip_seconds", "waiting")

    def __init__(self) -> None:
        self.nodes = 0
        """Relays in the cluster, including this one, according to the last answer of Redis."""
        self.waiting = 0
        """Operations that Redis has not answered yet."""
        self.reconnects = 0
        """Times the link broke or could not be made."""
        self.resumptions = 0
        """Times this relay had to register its peers again."""
        self.round_trip_seconds = Histogram(0.001, 0.002, 0.005, 0.02, 0.1, 0.5, 2.0)


class Counters:
    """Counts since the start of the relay. ``send_queue_high`` is reset by each scrape, all others only grow."""

    __slots__ = (
        "accepted",
        "bytes_in",
        "bytes_out",
        "closed",
        "cluster",
        "credentials",
        "delivered",
        "join_seconds",
        "lag_seconds",
        "limited",
        "messages",
        "rejected",
        "send_queue_high",
    )

    def __init__(self) -> None:
        self.accepted = 0
        """TCP connections accepted."""
        self.messages: Counter[str] = Counter()
        """Messages received, by type, including rejected ones."""
        self.rejected: Counter[str] = Counter()
        """Messages rejected, by the error code sent."""
        self.closed: Counter[int] = Counter()
        """Connections that the relay closed, by close code."""
        self.limited: Counter[str] = Counter()
        """Times a limit was exceeded, by its name."""
        self.credentials = 0
        """TURN credentials created, at joins and at renewals."""
        self.bytes_in = 0
        """Bytes read from sockets, HTTP and WebSocket framing included."""
        self.delivered = 0
        """Messages put into send queues, counted per recipient."""
        self.bytes_out = 0
        """Their size in bytes, with WebSocket framing."""
        self.send_queue_high = 0
        """Maximum size of a send queue since the last scrape, in bytes."""
        self.join_seconds = Histogram(0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 5.0)
        self.lag_seconds = Histogram(0.001, 0.005, 0.02, 0.1, 0.5, 2.0)
        self.cluster: ClusterCounters | None = None
        """``None`` for a relay without a cluster."""

    def count_received(self, kind: str) -> None:
        """Count a received message of type ``kind``."""
        self.messages[kind if kind in MESSAGE_TYPES else "other"] += 1

    def count_sent(self, recipients: int, size: int) -> None:
        """Count a message of ``size`` bytes that was put into the send queues of its recipients."""
        self.delivered += recipients
        self.bytes_out += recipients * size

    def note_send_queue(self, size: int) -> None:
        """Note that a send queue holds ``size`` bytes."""
        if size > self.send_queue_high:
            self.send_queue_high = size
