"""Gathering of ICE candidates without waiting for servers (trickle ICE, RFC 8838).

Host candidates are sent with the description. Candidates of STUN and TURN servers follow, each as soon as it is
known. All configured servers are used.

Hook: the engine gathers inside ``setLocalDescription``, and queries only the first STUN and the first TURN server.
A server that does not answer delays every call by 5 s on each side.

Hook: aioice resolves names in the default executor; see ``resolver``.

Hook: aioice finds no address on a machine whose only interface is loopback.

``ice_checks`` sets the priorities, and orders and retransmits the checks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final

from aioice import ice as aioice_ice
from aioice.candidate import Candidate
from aioice.ice import StunProtocol, relayed_candidate, server_reflexive_candidate

from ..log_limit import LimitedLogger
from ..signaling.ice_servers import MAX_SERVERS, IceServer
from .aiortc_hooks import limit_datagrams
from .happy_eyeballs import first_success
from .ice_checks import IceChecks
from .resolver import resolve

log = LimitedLogger(logging.getLogger(__name__))

TURN_TIMEOUT: Final = 5.0
"""Maximum time to wait for a TURN server with ``relay_only``, in seconds. Without one, no description can be sent."""

SETTLE_TIMEOUT: Final = 1.0
"""Maximum time to wait for host sockets that are being opened, in seconds. It takes milliseconds."""


class _NamedTlsContext(ssl.SSLContext):
    """TLS context that verifies ``name``, whatever address is connected to.

    Hook: aioice takes one string as name and address, and would resolve the name itself.
    """

    name: str

    @classmethod
    def named(cls, name: str) -> _NamedTlsContext:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)  # verifies certificates and names
        context.load_default_certs()
        context.name = name
        return context

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *_: object, **__: object) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_hostname=self.name)


def host_addresses() -> list[str]:
    """Return the addresses of this machine. Loopback only if there is no other."""
    addresses: list[str] = aioice_ice.get_host_addresses(use_ipv4=True, use_ipv6=True)
    return addresses or ["127.0.0.1"]


class NoTurnServerError(ConnectionError):
    """No TURN server can be used, although ``relay_only`` requires one.

    The reason is logged elsewhere: by ``Agent`` on joining if none is configured, otherwise when a server fails.
    """


class IceGatherer:
    """Gatherer of candidates for one ``aioice.Connection``.

    ``on_candidate`` is called in the event loop with each candidate of a STUN or TURN server.
    """

    def __init__(
        self,
        connection: Any,
        servers: Iterable[IceServer],
        *,
        relay_only: bool,
        on_candidate: Callable[[Candidate], None],
    ) -> None:
        for name in ("get_component_candidates", "_local_candidates", "_local_candidates_end", "_protocols"):
            assert hasattr(connection, name), f"aioice no longer has {name}"
        self._connection = connection
        self._servers = list(servers)[:MAX_SERVERS]
        self._relay_only = relay_only
        self._on_candidate = on_candidate
        self._host_task: asyncio.Task[list[Candidate]] | None = None
        self._host_gathered = asyncio.Event()
        self._turn_gathered = asyncio.Event()
        self._checks = IceChecks(connection)
        connection.gather_candidates = self._gather_candidates

    async def _gather_candidates(self) -> None:
        """Gather what the description must contain. Replaces the engine's ``gather_candidates``.

        Raises:
            TimeoutError, NoTurnServerError: no TURN server can be used, with ``relay_only``.
        """
        connection = self._connection
        if connection._local_candidates_start:
            return
        connection._local_candidates_start = True
        if self._relay_only:
            async with asyncio.timeout(TURN_TIMEOUT):
                await self._turn_gathered.wait()
            if not connection._local_candidates:
                raise NoTurnServerError("no TURN server can be used, and --relay-only forbids other candidates")
        else:
            # Shielded: if the call ended now, cancelling would leave its sockets open. See ``settle``.
            loop = asyncio.get_running_loop()
            self._host_task = loop.create_task(connection.get_component_candidates(1, host_addresses()))
            connection._local_candidates += await asyncio.shield(self._host_task)
            self._checks.add_hosts(connection._local_candidates)
            for protocol in connection._protocols:
                limit_datagrams(protocol)
                self._checks.add_protocol(protocol)
            self._host_gathered.set()
        connection._local_candidates_end = True

    async def settle(self) -> None:
        """Wait until the host sockets are open, at most ``SETTLE_TIMEOUT`` seconds.

        Closing the connection closes only sockets that it knows.
        """
        if self._host_task is not None:
            _, pending = await asyncio.wait([self._host_task], timeout=SETTLE_TIMEOUT)
            if pending:
                self._host_task.cancel()

    async def run(self) -> None:
        """Query all servers concurrently. Returns when each has answered or failed."""
        if self._relay_only:
            await self._query_turn_servers()
            self._turn_gathered.set()  # also if all have failed
            return
        await self._host_gathered.wait()  # STUN requests are sent from the host sockets
        async with asyncio.TaskGroup() as group:
            group.create_task(self._query_turn_servers())
            for server in self._servers:
                for protocol in self._connection._protocols:
                    if not server.is_turn and protocol.local_candidate.type == "host":
                        group.create_task(self._query_stun(server, protocol))

    async def _query_turn_servers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                if server.is_turn:
                    group.create_task(self._allocate_turn(server))

    async def _query_stun(self, server: IceServer, protocol: StunProtocol) -> None:
        if ":" in protocol.local_candidate.host:
            return  # IPv6 has no NAT
        try:
            candidate, _ = await first_success(
                await resolve(server.host, server.port, socket.AF_INET),
                lambda host: server_reflexive_candidate(protocol, (host, server.port)),
            )
        except Exception as exc:  # aioice also raises errors of the transport; the other servers are still used
            why, cause = exc or type(exc).__name__, (server.host, server.port)
            log.info("= STUN server %s:%d failed: %s", server.host, server.port, why, cause=cause)
            return
        self._add_candidate(candidate)

    async def _allocate_turn(self, server: IceServer) -> None:
        connection = self._connection
        try:
            # aioice declares ``turn_ssl`` as a bool, but passes it on to asyncio, which also accepts a context.
            tls: Any = _NamedTlsContext.named(server.host) if server.scheme == "turns" else False
            candidate, protocol = await first_success(
                await resolve(server.host, server.port),
                lambda host: relayed_candidate(
                    component=1,
                    hide_related_address=self._relay_only,
                    protocol_factory=lambda: StunProtocol(connection),
                    turn_server=(host, server.port),
                    turn_username=server.username,
                    turn_password=server.password,
                    turn_ssl=tls,
                    turn_transport=server.transport,
                ),
                discard=lambda found: found[1].transport.close(),  # deletes the allocation
            )
        except Exception as exc:
            why, cause = exc or type(exc).__name__, (server.host, server.port)
            log.warning("TURN server %s:%d failed: %s", server.host, server.port, why, cause=cause)
            return
        if connection._closing:
            await protocol.close()
            return
        limit_datagrams(protocol)
        self._checks.add_protocol(protocol)
        connection._protocols.append(protocol)
        for remote in connection._remote_candidates:
            connection._pair_remote_candidate(remote)
        connection.sort_check_list()
        self._add_candidate(candidate)
        self._turn_gathered.set()

    def _add_candidate(self, candidate: Candidate) -> None:
        connection = self._connection
        if connection._closing or any(
            (c.host, c.port) == (candidate.host, candidate.port) for c in connection._local_candidates
        ):
            return  # without a NAT it equals the host candidate
        connection._local_candidates.append(candidate)
        self._on_candidate(candidate)
