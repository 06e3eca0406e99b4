"""How fast a connection and an address may go, and how many sockets an address may have. PURE: time is an argument.

A rate is kept as one number, the moment at which all that was sent would be due at that rate (GCRA, ITU-T I.371). How
far that lies ahead of now is how far its user is ahead of the rate, in seconds; a rate of 0 costs nothing, so nobody
is ever ahead of it.

THE LAW, of messages and octets (docs/limits.md): up to ``BURST`` seconds ahead all is well. Beyond, a message is
dropped, and counts as well. Beyond twice that the connection is closed. What a connection sends beyond its own rates
is not counted against its address, so that one that floods leaves those beside it theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice
from typing import Final

from .proxies import read_address

BURST: Final = 10.0
"""Seconds' worth of messages and octets that may come at once."""

MINUTE: Final = 60.0
"""Seconds' worth of connections and joins that may."""

COPY: Final = 4096
"""Octets of a frame to all that count as one copy; a larger one is several."""

MAX_IDLE: Final = 16_384
"""Addresses without a socket whose rates are remembered; the one that went first is forgotten first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What may come in a second; 0: any number."""

    messages: float
    octets: float
    copies: float
    """Frames that one to all becomes."""


class Pace:
    """One rate.

    Args:
        rate: how many a second; 0: any number.
        burst: seconds' worth that may come at once.
    """

    __slots__ = ("_burst", "_cost", "_due")

    def __init__(self, rate: float, burst: float) -> None:
        self._cost = 1 / rate if rate else 0.0
        self._burst = burst
        self._due = 0.0

    def allows(self, now: float) -> bool:
        """Whether one more is within the rate."""
        return self._due + self._cost <= now + self._burst

    def add(self, count: float, now: float) -> None:
        """Count this many, allowed or not."""
        self._due = max(self._due, now) + count * self._cost

    def take(self, now: float) -> bool:
        """Count one more if it is within the rate."""
        if not self.allows(now):
            return False
        self.add(1, now)
        return True

    def rests(self, now: float) -> bool:
        """Whether it is as if nothing had ever come."""
        return self._due <= now


class Meter:
    """What one connection, or all of one address, has sent. ``frame`` is called for every frame."""

    __slots__ = ("_message_cost", "_message_due", "_octet_cost", "_octet_due", "address", "copies")

    def __init__(self, rates: Rates, address: Meter | None = None) -> None:
        self._message_cost = 1 / rates.messages if rates.messages else 0.0
        self._octet_cost = 1 / rates.octets if rates.octets else 0.0
        self._message_due = 0.0
        self._octet_due = 0.0
        self.copies = Pace(rates.copies, BURST)
        self.address = address
        """That of all connections of its address; None: the address has no limits, or is one itself."""

    def read(self, octets: int, now: float) -> float:
        """Count octets of which no frame has come yet; how many seconds ahead that is."""
        self._octet_due = max(self._octet_due, now) + octets * self._octet_cost
        if self.address is not None and self._octet_due - now <= BURST:
            self.address.read(octets, now)
        return self.ahead(now)

    def frame(self, octets: int, now: float) -> float:
        """Count a frame, and what was read since the last one; how many seconds ahead of the nearest limit its sender
        is: see THE LAW. Flat, because it is asked for every frame."""
        due = self._message_due
        self._message_due = due = (due if due > now else now) + self._message_cost
        octet_due = self._octet_due
        self._octet_due = octet_due = (octet_due if octet_due > now else now) + octets * self._octet_cost
        ahead = (due if due > octet_due else octet_due) - now
        address = self.address
        if address is None or ahead > BURST:
            return ahead
        due = address._message_due
        address._message_due = due = (due if due > now else now) + address._message_cost
        octet_due = address._octet_due
        address._octet_due = octet_due = (octet_due if octet_due > now else now) + octets * address._octet_cost
        of_address = (due if due > octet_due else octet_due) - now
        return of_address if of_address > ahead else ahead

    def ahead(self, now: float) -> float:
        """The same without another frame."""
        own = max(self._message_due, self._octet_due) - now
        return own if self.address is None else max(own, self.address.ahead(now))

    def exceeded(self, now: float) -> str:
        """The limit that its sender is over, or nearest to."""
        if self.address is not None and self.address.ahead(now) > max(self._message_due, self._octet_due) - now:
            return f"address-{self.address.exceeded(now)}"
        return "octets" if self._octet_due > self._message_due else "messages"

    def copy(self, octets: int, receivers: int, now: float) -> None:
        """Count a frame of ``octets`` that went to this many."""
        copies = receivers * -(-octets // COPY)
        self.copies.add(copies, now)
        if self.address is not None:
            self.address.copies.add(copies, now)

    def may_copy(self, now: float) -> str | None:
        """The limit that keeps a frame to all from being sent now; None when nothing does. One that is let through
        may go beyond the rate by its own size, which is paid off before the next one."""
        if not self.copies.allows(now):
            return "copies"
        if self.address is not None and not self.address.copies.allows(now):
            return "address-copies"
        return None

    def rests(self, now: float) -> bool:
        """Whether it is as if nothing had ever come."""
        return self._message_due <= now and self._octet_due <= now and self.copies.rests(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressLimits:
    """Of one address; 0: no limit."""

    sockets: int
    connects: float
    """New connections a minute."""
    joins: float
    """A minute, those that fail too."""
    rates: Rates


class Address:
    """One address, or one /64 of IPv6: that is what one customer gets, and he may use all of it."""

    __slots__ = ("connects", "joins", "key", "meter", "sockets")

    def __init__(self, key: int, limits: AddressLimits) -> None:
        self.key = key
        self.sockets = 0
        self.connects = Pace(limits.connects / MINUTE, MINUTE)
        self.joins = Pace(limits.joins / MINUTE, MINUTE)
        self.meter = Meter(limits.rates)

    def rests(self, now: float) -> bool:
        """Whether it is as if nothing had ever come from there."""
        return self.connects.rests(now) and self.joins.rests(now) and self.meter.rests(now)


class Addresses:
    """All addresses that have a socket, and those that had one a while ago: bounded, see ``MAX_IDLE``."""

    def __init__(self, limits: AddressLimits) -> None:
        self._limits = limits
        self._known: dict[int, Address] = {}
        self._idle: dict[int, Address] = {}  # of these, those without a socket, as they went

    def __len__(self) -> int:
        return len(self._known)

    def arrive(self, host: str, now: float) -> Address | str | None:
        """A socket from ``host``: its address, which has one more; or the limit that is reached, and it has not.
        None: that is no IP address, and has no limits."""
        key = _key(host)
        if key is None:
            return None
        address = self._known.get(key) or Address(key, self._limits)
        if self._limits.sockets and address.sockets >= self._limits.sockets:
            return "address-sockets"
        if not address.connects.take(now):
            return "address-connects"
        address.sockets += 1
        self._known[key] = address
        self._idle.pop(key, None)
        return address

    def depart(self, address: Address, now: float) -> None:
        """One of its sockets is gone."""
        address.sockets -= 1
        if address.sockets:
            return
        self._idle[address.key] = address
        for oldest in list(islice(self._idle.values(), 2)):  # two for one that comes: they do not pile up
            if len(self._idle) > MAX_IDLE or oldest.rests(now):
                del self._idle[oldest.key], self._known[oldest.key]


def _key(host: str) -> int | None:
    found = read_address(host)
    if found is None:
        return None
    return int(found) if isinstance(found, IPv4Address) else 1 << 64 | int(found) >> 64
