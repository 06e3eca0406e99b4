"""Order and retransmission of ICE connectivity checks.

Hook: in aioice all host candidates have the same priority, so two machines with 20 container bridges each start 441
checks in no particular order, one per 20 ms. Here the pairs that the kernel would route come first.

Hook: aioice repeats a check after 500 ms (RFC 8445 14.3). Behind two NATs the first check is always lost, so a call
took 800 ms to connect, and takes 200 ms with the early retransmissions here (docs/decisions/0020).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from typing import Any, Final

from aioice.candidate import Candidate, candidate_priority
from aioice.ice import candidate_pair_priority

EARLY_INTERVAL: Final = 0.05
"""Interval between early retransmissions of a check, in seconds."""

EARLY_PERIOD: Final = 0.5
"""Time for which a check is retransmitted early, in seconds: until aioice's own first retransmission."""

EARLY_PAIRS: Final = 5
"""Maximum pairs whose checks are retransmitted early: more would be a burst at the start of every call."""

PACE: Final = 0.005
"""Minimum interval between two early retransmissions of all pairs, in seconds."""

_MAX_PREFERENCE: Final = 65_535
_ROUTED, _OWN, _OVER_TURN, _UNLIKELY = range(4)
"""Order of pairs. ``_ROUTED``: the kernel sends from this address to that one. ``_OWN``: the remote address is also
ours, as with equal container bridges, or two peers on one machine. ``_UNLIKELY``: another address is the source."""

_DOCUMENTATION: Final = ("192.0.2.1", "2001:db8::1")
"""Addresses that only the default route leads to (RFC 5737, RFC 3849). Nothing is sent to them."""


def source_address(host: str) -> str | None:
    """Return the address from which the kernel would send to ``host``, or ``None`` if it has no route."""
    try:
        family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))  # of a datagram socket, this sends nothing
            return str(probe.getsockname()[0])
    except (OSError, ValueError):  # ValueError: an mDNS name that is not resolved yet
        return None


class IceChecks:
    """The order and retransmission of one ``aioice.Connection``'s checks. ``source_address``: see the function."""

    def __init__(self, connection: Any, source_address: Callable[[str], str | None] = source_address) -> None:
        for name in ("_check_list", "sort_check_list", "ice_controlling", "_closing"):
            assert hasattr(connection, name), f"aioice no longer has {name}"
        self._connection = connection
        self._source_address = source_address
        self._sources: dict[str, str | None] = {}
        """Results of ``source_address``, by remote address."""
        self._own: set[str] = set()
        self._pace = asyncio.Lock()
        """Held for ``PACE`` after each early retransmission."""
        connection.sort_check_list = self._sort

    def add_hosts(self, candidates: list[Candidate]) -> None:
        """Give the host candidates distinct priorities (RFC 8445 5.1.2.1), those of the default route first."""
        defaults = [self._source_address(host) for host in _DOCUMENTATION]
        ordered = sorted(candidates, key=lambda candidate: candidate.host not in defaults)
        for index, candidate in enumerate(ordered):
            candidate.priority = candidate_priority(candidate.component, "host", _MAX_PREFERENCE - index)
        self._own = {candidate.host for candidate in candidates}

    def add_protocol(self, protocol: Any) -> None:
        """Retransmit the checks that are sent with ``protocol``, aioice's of one socket."""
        send = protocol.request

        async def request(
            message: Any, address: tuple[str, int], integrity_key: bytes | None = None, **options: Any
        ) -> Any:
            # Requests to STUN servers have no key, and consent checks (RFC 7675) set their retransmissions.
            if integrity_key is None or options or not self._is_early(protocol, address):
                return await send(message, address, integrity_key=integrity_key, **options)
            repeating = asyncio.get_running_loop().create_task(self._repeat(protocol, message, address))
            try:
                return await send(message, address, integrity_key=integrity_key)
            finally:
                repeating.cancel()

        protocol.request = request

    def _is_early(self, protocol: Any, address: tuple[str, int]) -> bool:
        best = self._connection._check_list[:EARLY_PAIRS]
        return any(pair.protocol is protocol and pair.remote_addr == address for pair in best)

    async def _repeat(self, protocol: Any, message: Any, address: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        for count in range(1, round(EARLY_PERIOD / EARLY_INTERVAL)):
            await asyncio.sleep(started + count * EARLY_INTERVAL - loop.time())
            async with self._pace:
                if loop.time() - started >= EARLY_PERIOD or self._connection._closing:
                    return
                protocol.send_stun(message, address)
                await asyncio.sleep(PACE)

    def _sort(self) -> None:
        controlling = self._connection.ice_controlling

        def order(pair: Any) -> tuple[int, int]:
            priority = candidate_pair_priority(pair.local_candidate, pair.remote_candidate, controlling)
            return self._likelihood(pair), -priority

        self._connection._check_list.sort(key=order)

    def _likelihood(self, pair: Any) -> int:
        if pair.local_candidate.type == "relay":
            return _OVER_TURN
        host = pair.remote_addr[0]
        if host in self._own:
            return _OWN if host == pair.local_candidate.host else _UNLIKELY
        if host not in self._sources:
            self._sources[host] = self._source_address(host)
        return _ROUTED if self._sources[host] == pair.local_candidate.host else _UNLIKELY
