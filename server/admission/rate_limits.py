"""Rate limits of connections and addresses, and the number of connections per address. Pure: time is an argument.

A rate is stored as one number: the time at which everything sent so far would be due at that rate (GCRA, ITU-T
I.371). The difference between that time and now, in seconds, is how far the sender is ahead of the rate. A rate of 0
has no cost, so no sender is ever ahead of it.

Rule for messages and bytes (docs/limits.md): up to ``BURST`` seconds ahead, messages pass. Beyond that, a message is
dropped, but still counted. Beyond twice that, the connection is closed. What a connection sends beyond its own rates
does not count against its address, so a flooding connection does not use up the limits of others there.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice
from typing import Final

from .proxies import read_address

BURST: Final = 10.0
"""Size of a burst of messages or bytes, in seconds of the rate. A call setup is a burst of candidates."""

MINUTE: Final = 60.0
"""Size of a burst of connections or joins, in seconds of the rate. A page load and a restart are bursts."""

COPY_SIZE: Final = 4096
"""Size of a broadcast that counts as one copy per recipient, in bytes. A larger one counts as several."""

MAX_IDLE: Final = 16_384
"""Maximum number of addresses without a connection whose rates are kept. Bounds the memory for many addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Limits per second; 0: no limit."""

    messages: float
    bytes: float
    copies: float
    """Messages that result from broadcasts, one per recipient."""


class RateLimit:
    """One rate.

    Args:
        rate: limit per second; 0: no limit.
        burst: size of a burst, in seconds of the rate.
    """

    __slots__ = ("_burst", "_cost", "_due")

    def __init__(self, rate: float, burst: float) -> None:
        self._cost = 1 / rate if rate else 0.0
        self._burst = burst
        self._due = 0.0

    def allows(self, now: float) -> bool:
        """Whether one more event is within the rate."""
        return self._due + self._cost <= now + self._burst

    def add(self, count: float, now: float) -> None:
        """Count ``count`` events, whether they are within the rate or not."""
        self._due = max(self._due, now) + count * self._cost

    def try_add(self, now: float) -> bool:
        """Count one event if it is within the rate, and return whether it is."""
        if not self.allows(now):
            return False
        self.add(1, now)
        return True

    def is_idle(self, now: float) -> bool:
        """Whether the state equals that of a new object."""
        return self._due <= now


class TrafficMeter:
    """What one connection, or all connections of an address, have sent. Called for every WebSocket frame."""

    __slots__ = ("_byte_cost", "_byte_due", "_message_cost", "_message_due", "address", "copies")

    def __init__(self, rates: Rates, address: TrafficMeter | None = None) -> None:
        self._message_cost = 1 / rates.messages if rates.messages else 0.0
        self._byte_cost = 1 / rates.bytes if rates.bytes else 0.0
        self._message_due = 0.0
        self._byte_due = 0.0
        self.copies = RateLimit(rates.copies, BURST)
        self.address = address
        """The meter of the connection's address. ``None``: the address has no limits, or this is its meter."""

    def count_bytes(self, size: int, now: float) -> float:
        """Count bytes of an incomplete frame. Returns how far the sender is ahead, in seconds."""
        self._byte_due = max(self._byte_due, now) + size * self._byte_cost
        if self.address is not None and self._byte_due - now <= BURST:
            self.address.count_bytes(size, now)
        return self.ahead(now)

    def count_message(self, size: int, now: float) -> float:
        """Count a message, and the ``size`` bytes read since the last one.

        The code does not call functions, because it runs for every message.

        Returns:
            How far the sender is ahead of the rate that it exceeds most, in seconds.
        """
        due = self._message_due
        self._message_due = due = (due if due > now else now) + self._message_cost
        byte_due = self._byte_due
        self._byte_due = byte_due = (byte_due if byte_due > now else now) + size * self._byte_cost
        ahead = (due if due > byte_due else byte_due) - now
        address = self.address
        if address is None or ahead > BURST:
            return ahead
        due = address._message_due
        address._message_due = due = (due if due > now else now) + address._message_cost
        byte_due = address._byte_due
        address._byte_due = byte_due = (byte_due if byte_due > now else now) + size * address._byte_cost
        address_ahead = (due if due > byte_due else byte_due) - now
        return address_ahead if address_ahead > ahead else ahead

    def ahead(self, now: float) -> float:
        """Return how far the sender is ahead of the rate that it exceeds most, in seconds."""
        own = max(self._message_due, self._byte_due) - now
        return own if self.address is None else max(own, self.address.ahead(now))

    def exceeded(self, now: float) -> str:
        """Return the name of the limit that the sender exceeds most, or is nearest to."""
        if self.address is not None and self.address.ahead(now) > max(self._message_due, self._byte_due) - now:
            return f"address-{self.address.exceeded(now)}"
        return "octets" if self._byte_due > self._message_due else "messages"

    def count_copies(self, size: int, recipients: int, now: float) -> None:
        """Count a broadcast of ``size`` bytes."""
        copies = recipients * -(-size // COPY_SIZE)
        self.copies.add(copies, now)
        if self.address is not None:
            self.address.copies.add(copies, now)

    def exceeded_copy_limit(self, now: float) -> str | None:
        """Return the name of the limit that forbids a broadcast now, or ``None``.

        An allowed broadcast may exceed the rate by its own size. The next one is rejected until the rate
        permits it.
        """
        if not self.copies.allows(now):
            return "copies"
        if self.address is not None and not self.address.copies.allows(now):
            return "address-copies"
        return None

    def is_idle(self, now: float) -> bool:
        """Whether the state equals that of a new object."""
        return self._message_due <= now and self._byte_due <= now and self.copies.is_idle(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressLimits:
    """Limits per address; 0: no limit."""

    sockets: int
    connects: float
    """New connections per minute."""
    joins: float
    """Joins per minute, including rejected ones."""
    rates: Rates


class Address:
    """One IPv4 address, or one IPv6 /64: that is what one customer usually gets, and can use entirely."""

    __slots__ = ("connects", "joins", "key", "meter", "sockets")

    def __init__(self, key: int, limits: AddressLimits) -> None:
        self.key = key
        self.sockets = 0
        self.connects = RateLimit(limits.connects / MINUTE, MINUTE)
        self.joins = RateLimit(limits.joins / MINUTE, MINUTE)
        self.meter = TrafficMeter(limits.rates)

    def is_idle(self, now: float) -> bool:
        """Whether the state equals that of an address that was never seen."""
        return self.connects.is_idle(now) and self.joins.is_idle(now) and self.meter.is_idle(now)


class AddressTable:
    """The addresses with connections, and up to ``MAX_IDLE`` addresses that had some recently."""

    def __init__(self, limits: AddressLimits) -> None:
        self._limits = limits
        self._known: dict[int, Address] = {}
        self._idle: dict[int, Address] = {}  # of these, those without a connection, the oldest first

    def __len__(self) -> int:
        return len(self._known)

    def add_connection(self, host: str, now: float) -> Address | str | None:
        """Count a connection from ``host``.

        Returns:
            The address; or the name of the limit that rejects the connection, which is not counted then; or ``None``
            if ``host`` is not an IP address, and therefore has no limits.
        """
        key = _key(host)
        if key is None:
            return None
        address = self._known.get(key) or Address(key, self._limits)
        if self._limits.sockets and address.sockets >= self._limits.sockets:
            return "address-sockets"
        if not address.connects.try_add(now):
            return "address-connects"
        address.sockets += 1
        self._known[key] = address
        self._idle.pop(key, None)
        return address

    def remove_connection(self, address: Address, now: float) -> None:
        """Record the end of a connection of ``address``."""
        address.sockets -= 1
        if address.sockets:
            return
        self._idle[address.key] = address
        for oldest in list(islice(self._idle.values(), 2)):  # two per new one, so the table shrinks
            if len(self._idle) > MAX_IDLE or oldest.is_idle(now):
                del self._idle[oldest.key], self._known[oldest.key]


def _key(host: str) -> int | None:
    found = read_address(host)
    if found is None:
        return None
    return int(found) if isinstance(found, IPv4Address) else 1 << 64 | int(found) >> 64
