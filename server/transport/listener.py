"""Listening sockets that check each connection before it uses any resources.

asyncio's own server reports a TLS connection only after its handshake, so connections that never finish one would not
be counted. When descriptors run out, it logs a traceback every second and lets clients wait. This listener keeps one
descriptor in reserve to accept such clients, and closes them at once.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final, Generic, TypeVar

from ..config import MAX_CONNECTIONS

logger = logging.getLogger("server")

V = TypeVar("V")

RESERVED_DESCRIPTORS: Final = 192
"""Descriptors that are not for admitted connections: for rejected ones (``admission.MAX_REFUSALS``), for monitoring,
for files and the reserve."""

SOCKET_BUFFER: Final = 128 * 1024
"""Size of the kernel's buffer per connection and direction, in bytes. Linux uses twice that, for its own needs.

By default, a client that does not read can occupy 4 MB, and a client that writes too fast even more.
"""

_BACKLOG: Final = 1024
"""Connections that may wait to be accepted: after a restart, a thousand peers reconnect at once."""
_BATCH: Final = 256
"""Maximum number of connections accepted per iteration of the event loop, so that other clients are served, too."""
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 1.0
"""Time for which accepting is paused when even the reserve cannot be used, in seconds."""


class Listener(Generic[V]):
    """A listening socket. It has connections checked, and creates protocols for the admitted ones.

    Args:
        admit: called with the address of each connection. Its result is passed to the next two. ``None``: close it.
        make: creates the protocol.
        failed: called if no protocol is created, because the TLS handshake failed.
        exhausted: called when a connection was closed because there was no descriptor for it.
        tls: ``None``: no TLS.
        handshake_timeout: maximum time for a TLS handshake, in seconds.
        shutdown_timeout: maximum time for the end of a TLS connection, in seconds.
    """

    def __init__(
        self,
        admit: Callable[[str], V | None],
        make: Callable[[V], asyncio.BaseProtocol],
        failed: Callable[[V], None],
        exhausted: Callable[[], None],
        *,
        tls: ssl.SSLContext | None,
        handshake_timeout: float,
        shutdown_timeout: float,
    ) -> None:
        self._admit = admit
        self._make = make
        self._failed = failed
        self._exhausted = exhausted
        self._tls = tls
        self._handshake_timeout = None if tls is None else handshake_timeout
        self._shutdown_timeout = None if tls is None else shutdown_timeout
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._reserve: int | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        """The port of the first socket."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def start(self, host: str, port: int) -> None:
        """Listen at all addresses of ``host``. Port 0 takes a free one.

        Raises:
            OSError, UnicodeError: ``host`` cannot be resolved, or an address cannot be bound.
        """
        self._loop = asyncio.get_running_loop()
        found = await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                self._bind(family, (address[0], port, *address[2:]))
                port = self.port
            if not self._sockets:
                raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
        except BaseException:
            self.close()
            raise
        self._take_reserve()
        self._listen()

    def close(self) -> None:
        """Stop listening, and drop connections in a TLS handshake."""
        if self._pause is not None:
            self._pause.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        if self._opening:
            self._loop.call_soon(self._cancel_opening)  # once each has started, its transport closes the socket
        self._free_reserve()

    async def wait_closed(self) -> None:
        """Wait until the connections dropped by ``close`` have ended."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _cancel_opening(self) -> None:
        for task in self._opening:
            task.cancel()

    def _bind(self, family: int, address: tuple[object, ...]) -> None:
        try:
            listening = socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as exc:
            if exc.errno == errno.EAFNOSUPPORT:  # the name has an IPv6 address, but the kernel has no IPv6
                return
            raise
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # inherited by accepted sockets
            listening.setsockopt(socket.SOL_SOCKET, buffer, SOCKET_BUFFER)
        # asyncio sets it only on sockets whose protocol is IPPROTO_TCP, and create_server makes them with 0. With
        # Nagle's algorithm a second message waits for the delayed ACK of the first one: 39 ms
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listening.setblocking(False)
        self._sockets.append(listening)

    def _listen(self) -> None:
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_BATCH):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                if exc.errno not in _OUT_OF_RESOURCES:
                    raise
                if not self._close_one(listening):
                    return
                continue
            admitted = self._admit(address[0])
            if admitted is None:
                accepted.close()
                continue
            accepted.setblocking(False)
            task = self._loop.create_task(self._open(accepted, admitted))
            self._opening.add(task)
            task.add_done_callback(partial(self._opened, admitted))

    async def _open(self, accepted: socket.socket, admitted: V) -> None:
        try:
            protocol = self._make(admitted)
        except BaseException:
            accepted.close()
            raise
        await self._loop.connect_accepted_socket(
            lambda: protocol,
            accepted,
            ssl=self._tls,
            ssl_handshake_timeout=self._handshake_timeout,
            ssl_shutdown_timeout=self._shutdown_timeout,
        )

    def _opened(self, admitted: V, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        failure = None if task.cancelled() else task.exception()
        if task.cancelled() or failure is not None:
            self._failed(admitted)
        if failure is not None and not isinstance(failure, OSError):  # OSError: the TLS handshake failed or timed out
            self._loop.call_exception_handler({"message": "a connection failed", "exception": failure})

    # --- out of descriptors -----------------------------------------------------------------------------------

    def _close_one(self, listening: socket.socket) -> bool:
        """Accept a waiting connection with the reserve, and close it. ``False``: failed; accepting is paused."""
        self._exhausted()
        if self._free_reserve():
            with suppress(OSError):
                listening.accept()[0].close()
            if self._take_reserve():
                return True
        for each in self._sockets:
            self._loop.remove_reader(each)
        self._pause = self._loop.call_later(_PAUSE, self._resume)
        return False

    def _resume(self) -> None:
        self._take_reserve()
        self._listen()

    def _take_reserve(self) -> bool:
        if self._reserve is None:
            with suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._reserve is not None

    def _free_reserve(self) -> bool:
        reserve, self._reserve = self._reserve, None
        if reserve is None:
            return False
        os.close(reserve)
        return True


def max_connections_allowed(wanted: int) -> int:
    """Return ``wanted``, limited to the connections that the file descriptors allow. 0: as many as they allow.

    A peer needs a descriptor, and the usual soft limit of 1,024 is too low. It is raised to the hard limit.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    allowed = 1 << 30 if soft == resource.RLIM_INFINITY else max(1, soft - RESERVED_DESCRIPTORS)
    if wanted not in (0, MAX_CONNECTIONS) and wanted > allowed:
        text = "! limited to %d connections by %d file descriptors; raise ulimit -n or LimitNOFILE="
        logger.warning(text, allowed, soft)
    return min(wanted or allowed, allowed)


async def is_loopback(host: str) -> bool:
    """Return whether all addresses of ``host``, an address or a name, are loopback addresses.

    Raises:
        OSError, UnicodeError: it cannot be resolved.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return all(ipaddress.ip_address(str(where[4][0]).partition("%")[0]).is_loopback for where in found)
