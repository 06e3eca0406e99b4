"""Gathering candidates without waiting for any server (trickle ICE, RFC 8838).

Host candidates are there at once and go with the description; what STUN and TURN servers find follows, each as
it is known. All servers given are used.

Hook: the engine gathers inside ``setLocalDescription`` and uses the first STUN and the first TURN server only, so
one server that does not answer delays every call by 5 s a side; it looks names up in the default executor, where
a stuck look-up blocks the encoders and the end of the process; and it has no address on a machine whose only
interface is loopback.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any, Final

from aioice import ice as aioice_ice
from aioice.candidate import Candidate
from aioice.ice import StunProtocol, relayed_candidate, server_reflexive_candidate

from ..signaling.ice_servers import MAX_SERVERS, IceServer

log = logging.getLogger(__name__)

RELAY_TIMEOUT: Final = 5.0
"""Seconds to wait for a TURN server when nothing but relayed candidates may be used."""

SETTLE_TIMEOUT: Final = 1.0
"""Maximum time to wait for host sockets that are being opened, in seconds. It takes milliseconds."""


async def _resolve(host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC) -> str:
    """The first address of ``host``. In a daemon thread of its own: a look-up can hang for as long as it likes."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    found: asyncio.Future[str] = loop.create_future()

    def settle(address: str | None, error: OSError | None) -> None:
        if found.done():
            return
        if error is not None:
            found.set_exception(error)
        else:
            found.set_result(address or "")

    def look_up() -> None:
        address, error = None, None
        try:
            address = str(socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)[0][4][0])
        except (OSError, UnicodeError) as exc:  # UnicodeError: what is no host name at all
            error = OSError(str(exc))
        try:
            loop.call_soon_threadsafe(settle, address, error)
        except RuntimeError:
            pass  # the loop is gone; so is whoever asked

    threading.Thread(target=look_up, name=f"resolve-{host}", daemon=True).start()
    return await found


class _TlsTo(ssl.SSLContext):
    """Trusts whom the system trusts to be ``name``, whatever address the connection goes to: the engine knows but one
    of the two, and would look the name up by itself."""

    name: str

    @classmethod
    def named(cls, name: str) -> _TlsTo:
        context = cls(ssl.PROTOCOL_TLS_CLIENT)  # which checks certificates and names
        context.load_default_certs()
        context.name = name
        return context

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *_: object, **__: object) -> ssl.SSLObject:
        return super().wrap_bio(incoming, outgoing, server_hostname=self.name)


def host_addresses() -> list[str]:
    """Where others can reach this machine; loopback only where there is nothing else."""
    addresses: list[str] = aioice_ice.get_host_addresses(use_ipv4=True, use_ipv6=True)
    return addresses or ["127.0.0.1"]


class NoTurnServer(ConnectionError):
    """Only TURN servers were to be used and none can be: there is none (``Agent`` says so on joining), or each failed
    and was told."""


class Gathering:
    """Gathers for one ``aioice.Connection``. ``on_candidate`` is called in the event loop, for each candidate
    that comes after the description."""

    def __init__(
        self,
        connection: Any,
        servers: Iterable[IceServer],
        *,
        relay_only: bool,
        on_candidate: Callable[[Candidate], None],
    ) -> None:
        for name in ("get_component_candidates", "_local_candidates", "_local_candidates_end", "_protocols"):
            assert hasattr(connection, name), f"aioice has no {name} any more"
        self._connection = connection
        self._servers = list(servers)[:MAX_SERVERS]
        self._relay_only = relay_only
        self._on_candidate = on_candidate
        self._host: asyncio.Task[list[Candidate]] | None = None
        self._has_host = asyncio.Event()
        self._relayed = asyncio.Event()
        connection.gather_candidates = self._gather_host

    async def _gather_host(self) -> None:
        connection = self._connection
        if connection._local_candidates_start:
            return
        connection._local_candidates_start = True
        if self._relay_only:
            async with asyncio.timeout(RELAY_TIMEOUT):
                await self._relayed.wait()
            if not connection._local_candidates:
                raise NoTurnServer("relay only, and no TURN server can be used")
        else:
            # Shielded: a call that ends at this moment would leave its sockets behind (see ``settle``).
            loop = asyncio.get_running_loop()
            self._host = loop.create_task(connection.get_component_candidates(1, host_addresses()))
            connection._local_candidates += await asyncio.shield(self._host)
            self._has_host.set()
        connection._local_candidates_end = True

    async def settle(self) -> None:
        """Wait until the host sockets are open, so that closing the connection closes them too. At most
        ``SETTLE_TIMEOUT`` seconds."""
        if self._host is not None:
            _, pending = await asyncio.wait([self._host], timeout=SETTLE_TIMEOUT)
            if pending:
                self._host.cancel()

    async def run(self) -> None:
        """Ask the servers, all at once; ends when each has answered or failed."""
        if self._relay_only:
            await self._ask_relays()
            self._relayed.set()  # or none will be
            return
        await self._has_host.wait()  # host sockets are what STUN is asked from
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask_relays())
            for server in self._servers:
                for protocol in self._connection._protocols:
                    if not server.is_turn and protocol.local_candidate.type == "host":
                        group.create_task(self._ask_stun(server, protocol))

    async def _ask_relays(self) -> None:
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                if server.is_turn:
                    group.create_task(self._ask_turn(server))

    async def _ask_stun(self, server: IceServer, protocol: StunProtocol) -> None:
        if ":" in protocol.local_candidate.host:
            return  # nothing translates IPv6 addresses
        try:
            address = (await _resolve(server.host, server.port, socket.AF_INET), server.port)
            candidate, _ = await server_reflexive_candidate(protocol, address)
        except Exception as exc:  # aioice raises what the transport does; a server that fails costs only itself
            log.info("= STUN server %s:%d: %s", server.host, server.port, exc or type(exc).__name__)
            return
        self._found(candidate)

    async def _ask_turn(self, server: IceServer) -> None:
        connection = self._connection
        try:
            host = await _resolve(server.host, server.port)
            tls: Any = _TlsTo.named(server.host) if server.scheme == "turns" else False  # passed on as it is
            candidate, protocol = await relayed_candidate(
                component=1,
                hide_related_address=self._relay_only,
                protocol_factory=lambda: StunProtocol(connection),
                turn_server=(host, server.port),
                turn_username=server.username,
                turn_password=server.password,
                turn_ssl=tls,
                turn_transport=server.transport,
            )
        except Exception as exc:
            log.warning("TURN server %s:%d cannot be used: %s", server.host, server.port, exc or type(exc).__name__)
            return
        if connection._closing:
            await protocol.close()
            return
        connection._protocols.append(protocol)
        for remote in connection._remote_candidates:
            connection._pair_remote_candidate(remote)
        connection.sort_check_list()
        self._found(candidate)
        self._relayed.set()

    def _found(self, candidate: Candidate) -> None:
        connection = self._connection
        if connection._closing or any(
            (c.host, c.port) == (candidate.host, candidate.port) for c in connection._local_candidates
        ):
            return  # no NAT between us and the server: the host candidate says it already
        connection._local_candidates.append(candidate)
        self._on_candidate(candidate)
