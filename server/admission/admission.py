"""Admission of connections and joins: enforces the limits (docs/limits.md) and counts rejections. No I/O but the log.

A client's address is that of the TCP connection, or the one that a trusted proxy reports with the request. A proxy's
own address has no limits, nor have those in ``exempt``, which are this machine's unless configured otherwise.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Final

from peer.signaling.messages import ProtocolError

from ..config import RelayConfig
from ..http import response
from ..observability.counters import Counters
from ..observability.logs import RateLimitedLogger
from .proxies import Networks, Proxies
from .rate_limits import Address, AddressLimits, AddressTable, Rates, TrafficMeter

MAX_REFUSALS: Final = 64
"""Maximum number of connections over a limit that get an HTTP response at the same time. Others are only closed, so
that an attacker cannot use up the descriptors by being rejected."""

RETRY_AFTER: Final = 10
"""Value of ``Retry-After`` in the response to a rejected connection, in seconds."""

WRONG_TOKEN_COST: Final = 10
"""Number of joins that a join with a wrong token counts as, so that guessing is ten times slower than joining."""

_REJECTIONS: Final = {
    "connections": (HTTPStatus.SERVICE_UNAVAILABLE, "this relay has reached its limit of connections"),
    "address-sockets": (HTTPStatus.TOO_MANY_REQUESTS, "there are too many connections from your address"),
    "address-connects": (HTTPStatus.TOO_MANY_REQUESTS, "your address connects too often"),
}

_JOINS: Final = "address-joins"
_RATE_EXCEEDED: Final = {
    "messages": "too many messages",
    "octets": "too many bytes",
    "copies": "too many broadcasts",
    "address-messages": "too many messages from your address",
    "address-octets": "too many bytes from your address",
    "address-copies": "too many broadcasts from your address",
    _JOINS: "too many joins from your address",
}


class ConnectionRecord:
    """State of one TCP connection."""

    __slots__ = ("accepted_at", "address", "host", "meter", "open", "refusal")

    def __init__(self, host: str, meter: TrafficMeter, accepted_at: float) -> None:
        self.host = host
        self.meter = meter
        self.accepted_at = accepted_at
        self.address: Address | None = None
        """``None`` if the address has no limits, or is not known yet."""
        self.refusal: bytes | None = None
        """The HTTP response to send if the connection is rejected; otherwise ``None``."""
        self.open = True


class Admission:
    """The limits of one relay.

    Args:
        counters: counts the times that a limit was exceeded.
        proxies: the trusted proxies, whose own addresses have no limits.

    Raises:
        ConfigError: an exempt network is not a network.
    """

    def __init__(self, config: RelayConfig, counters: Counters, proxies: Proxies) -> None:
        self._counters = counters
        self._proxies = proxies
        self._exempt = Networks(config.exempt, "--exempt")
        self._rates = Rates(messages=config.message_rate, bytes=config.byte_rate, copies=config.copy_rate)
        address_rates = Rates(
            messages=config.address_message_rate,
            bytes=config.address_byte_rate,
            copies=config.address_copy_rate,
        )
        self._addresses = AddressTable(
            AddressLimits(
                sockets=config.address_sockets,
                connects=config.address_connect_rate,
                joins=config.address_join_rate,
                rates=address_rates,
            )
        )
        self._limits = {
            "messages": config.message_rate,
            "octets": config.byte_rate,
            "copies": config.copy_rate,
            "address-messages": config.address_message_rate,
            "address-octets": config.address_byte_rate,
            "address-copies": config.address_copy_rate,
            _JOINS: config.address_join_rate,
        }
        self.max_connections = 0
        """Maximum number of connections. Has to be set before the first one."""
        self._connections = 0  # including rejected ones that are still open
        self._refused = 0  # rejected ones that are still open
        self._log = RateLimitedLogger(logging.getLogger("server"))

    def admit(self, host: str, now: float) -> ConnectionRecord | None:
        """Check a new connection from ``host``. ``None``: close it without a response."""
        record = ConnectionRecord(host, TrafficMeter(self._rates), now)
        limit = "connections" if self._connections - self._refused >= self.max_connections else None
        if limit is None and not self._proxies.trust(host):
            limit = self.set_address(record, host, now)
        if limit is not None:
            self.count_exceeded(limit, host, now)
            if self._refused >= MAX_REFUSALS:
                return None
            self._refused += 1
            record.refusal = refusal(limit)
        self._connections += 1
        return record

    def set_address(self, record: ConnectionRecord, host: str, now: float) -> str | None:
        """Count ``record`` for the address ``host``. Returns the limit that rejects it, or ``None``."""
        record.host = host
        if self._exempt.has(host):
            return None
        found = self._addresses.add_connection(host, now)
        if isinstance(found, str):
            return found
        record.address = found
        record.meter.address = None if found is None else found.meter
        return None

    def remove(self, record: ConnectionRecord, now: float) -> None:
        """Note that a connection has ended. Further calls do nothing."""
        if not record.open:
            return
        record.open = False
        self._connections -= 1
        self._refused -= record.refusal is not None
        if record.address is not None:
            self._addresses.remove_connection(record.address, now)

    def check_join(self, record: ConnectionRecord, now: float) -> None:
        """Count a join.

        Raises:
            ProtocolError: ``rate-limited``.
        """
        if record.address is not None and not record.address.joins.try_add(now):
            self.count_exceeded(_JOINS, record.host, now)
            raise ProtocolError("rate-limited", self.describe(_JOINS))

    def check_broadcast(self, record: ConnectionRecord, now: float) -> None:
        """Check whether a message to all may be sent.

        Raises:
            ProtocolError: ``rate-limited``.
        """
        if (limit := record.meter.exceeded_copy_limit(now)) is not None:
            self.count_exceeded(limit, record.host, now)
            raise ProtocolError("rate-limited", self.describe(limit))

    def count_wrong_token(self, record: ConnectionRecord, now: float) -> None:
        """Count a join with a wrong token, which ``check_join`` has counted once already."""
        if record.address is not None:
            record.address.joins.add(WRONG_TOKEN_COST - 1, now)

    def count_exceeded(self, limit: str, address: str, now: float) -> None:
        """Count and log that ``limit`` was exceeded by ``address``."""
        self._counters.limited[limit] += 1
        line = f"! {address} exceeds the {limit} limit"
        self._log.info(limit, now, line, "limited", limit=limit, address=address)

    def describe(self, limit: str) -> str:
        """Return the text of the error for a client that exceeds ``limit``."""
        unit = "minute" if limit == _JOINS else "second"
        return f"{_RATE_EXCEEDED[limit]}: at most {self._limits[limit]:,.0f} per {unit}"


def refusal(limit: str) -> bytes:
    """Return the HTTP response to a connection that ``limit`` rejects."""
    status, why = _REJECTIONS[limit]
    body = f"{status.value} {status.phrase}: {why}; try again later\n".encode()
    return response(status, body, extra=f"Retry-After: {RETRY_AFTER}\r\n")
