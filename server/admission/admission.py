"""Who may connect and join, by how many and how fast (docs/limits.md). Holds the counts; the sockets are others'.

An address is that of the TCP connection, or the one that a trusted proxy tells of with the request; the proxy's own
has no limits. Nor have those in ``exempt``: they are this machine's unless the configuration says otherwise.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from peer.signaling.messages import ProtocolError

from ..config import RelayConfig
from ..http import response
from ..observability.counters import Tally
from ..observability.logs import Seldom
from .proxies import Networks, Proxies
from .rate_limits import Address, Addresses, AddressLimits, Meter, Rates

COURTESY: Final = 64
"""Connections over a limit that are told so at once; those beyond are only closed."""

RETRY_AFTER: Final = 10
"""Seconds, in the answer to who came when there was no room."""

GUESS: Final = 10
"""Joins that one counts as whose token is wrong."""

_FULL: Final = {
    "connections": (HTTPStatus.SERVICE_UNAVAILABLE, "this relay has as many connections as it takes"),
    "address-sockets": (HTTPStatus.TOO_MANY_REQUESTS, "there are too many connections from your address"),
    "address-connects": (HTTPStatus.TOO_MANY_REQUESTS, "your address connects too often"),
}

_JOINS: Final = "address-joins"
_TOO_FAST: Final = {
    "messages": "too many messages",
    "octets": "too many octets",
    "copies": "too many messages to all",
    "address-messages": "too many messages from your address",
    "address-octets": "too many octets from your address",
    "address-copies": "too many messages to all from your address",
    _JOINS: "too many joins from your address",
}


class Visit:
    """One TCP connection, from its accept to its end."""

    __slots__ = ("address", "here", "host", "meter", "refusal", "since")

    def __init__(self, host: str, meter: Meter, since: float) -> None:
        self.host = host
        self.meter = meter
        self.since = since  # when it was accepted
        self.address: Address | None = None  # None: it has no limits, or is not known yet
        self.refusal: bytes | None = None  # what it is to be told in the place of everything else
        self.here = True


class Guard:
    """The counts of one relay.

    Args:
        tally: counts what was refused, by limit.
        proxies: whose own address is nobody's.

    Raises:
        ConfigError: an exempt network that is none.
    """

    def __init__(self, config: RelayConfig, tally: Tally, proxies: Proxies) -> None:
        self._tally = tally
        self._proxies = proxies
        self._exempt = Networks(config.exempt, "--exempt")
        self._rates = Rates(messages=config.message_rate, octets=config.octet_rate, copies=config.copy_rate)
        of_address = Rates(
            messages=config.address_message_rate,
            octets=config.address_octet_rate,
            copies=config.address_copy_rate,
        )
        self._addresses = Addresses(
            AddressLimits(
                sockets=config.address_sockets,
                connects=config.address_connect_rate,
                joins=config.address_join_rate,
                rates=of_address,
            )
        )
        self._figures = {
            "messages": config.message_rate,
            "octets": config.octet_rate,
            "copies": config.copy_rate,
            "address-messages": config.address_message_rate,
            "address-octets": config.address_octet_rate,
            "address-copies": config.address_copy_rate,
            _JOINS: config.address_join_rate,
        }
        self.most = 0
        """Connections at once; to be set before the first one comes."""
        self._visits = 0  # those that are refused too
        self._refused = 0  # of these, still here
        self._log = Seldom(logging.getLogger("server"))

    def admit(self, host: str, now: float) -> Visit | None:
        """A connection from ``host`` was accepted. None: close it without a word."""
        visit = Visit(host, Meter(self._rates), now)
        limit = "connections" if self._visits - self._refused >= self.most else None
        if limit is None and not self._proxies.trust(host):
            limit = self.locate(visit, host, now)
        if limit is not None:
            self.exceeded(limit, host, now)
            if self._refused >= COURTESY:
                return None
            self._refused += 1
            visit.refusal = refusal(limit)
        self._visits += 1
        return visit

    def locate(self, visit: Visit, host: str, now: float) -> str | None:
        """``visit`` is from ``host``: the limit that keeps it out, or None and its address is known from now on."""
        visit.host = host
        if self._exempt.has(host):
            return None
        found = self._addresses.arrive(host, now)
        if isinstance(found, str):
            return found
        visit.address = found
        visit.meter.address = None if found is None else found.meter
        return None

    def leave(self, visit: Visit, now: float) -> None:
        """It is over. Any further time does nothing."""
        if not visit.here:
            return
        visit.here = False
        self._visits -= 1
        self._refused -= visit.refusal is not None
        if visit.address is not None:
            self._addresses.depart(visit.address, now)

    def join(self, visit: Visit, now: float) -> None:
        """It tries to join.

        Raises:
            ProtocolError: ``rate-limited``.
        """
        if visit.address is not None and not visit.address.joins.take(now):
            self.exceeded(_JOINS, visit.host, now)
            raise ProtocolError("rate-limited", self.why(_JOINS))

    def to_all(self, visit: Visit, now: float) -> None:
        """It sends a frame to all.

        Raises:
            ProtocolError: ``rate-limited``.
        """
        if (limit := visit.meter.may_copy(now)) is not None:
            self.exceeded(limit, visit.host, now)
            raise ProtocolError("rate-limited", self.why(limit))

    def guessed(self, visit: Visit, now: float) -> None:
        """It came with a token that was wrong."""
        if visit.address is not None:
            visit.address.joins.add(GUESS - 1, now)

    def exceeded(self, limit: str, who: str, now: float) -> None:
        """Count that ``limit`` was exceeded, and say by whom."""
        self._tally.limited[limit] += 1
        self._log.info(limit, now, f"! {who} is over the limit {limit}", "limited", limit=limit, address=who)

    def why(self, limit: str) -> str:
        """What to tell whom ``limit`` stops, once there is a WebSocket."""
        unit = "minute" if limit == _JOINS else "second"
        return f"{_TOO_FAST[limit]}: at most {self._figures[limit]:,.0f} a {unit} here"


def refusal(limit: str) -> bytes:
    """The answer to who is kept out by ``limit``, before there is a WebSocket."""
    status, why = _FULL[limit]
    body = f"{status.value} {status.phrase}: {why}; try again later\n".encode()
    return response(status, body, extra=f"Retry-After: {RETRY_AFTER}\r\n")
