"""The listening sockets. asyncio's own server accepts whoever comes; here each is asked for before it costs anything.

asyncio tells of a TLS connection when its handshake is over, so those that never finish one would be counted by
nobody; and without descriptors it logs a traceback a second and keeps the others waiting. Here one descriptor is
kept in reserve for that: it lets in who waits, to be closed at once.
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

from ..config import MOST_CONNECTIONS

logger = logging.getLogger("server")

V = TypeVar("V")

SPARE: Final = 192
"""Descriptors that are not for connections: for those that are told that they cannot be (``guard.COURTESY``), for
``ops``, for files and the reserve."""

KERNEL: Final = 128 * 1024
"""Octets that the kernel may keep of a connection in each direction (Linux takes twice that, for its own needs). Left
to itself it keeps 4 MB for who does not read, and more for who writes too fast."""

_BACKLOG: Final = 1024  # a thousand peers come back at once when a relay was restarted
_BATCH: Final = 256  # connections a turn of the loop
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 1.0  # seconds without accepting when not even the reserve helped


class Listener(Generic[V]):
    """Accepts, asks, and makes a protocol of who may come in.

    Args:
        admit: told the address of each connection; what it returns goes to the other two. None: close it.
        make: makes the protocol.
        failed: there will be no protocol, the TLS handshake failed.
        exhausted: a connection was closed because there was no descriptor for it.
        tls: None: none.
        deadline: seconds for a TLS handshake.
        shutdown: seconds for a TLS goodbye.
    """

    def __init__(
        self,
        admit: Callable[[str], V | None],
        make: Callable[[V], asyncio.BaseProtocol],
        failed: Callable[[V], None],
        exhausted: Callable[[], None],
        *,
        tls: ssl.SSLContext | None,
        deadline: float,
        shutdown: float,
    ) -> None:
        self._admit = admit
        self._make = make
        self._failed = failed
        self._exhausted = exhausted
        self._tls = tls
        self._deadline = None if tls is None else deadline
        self._shutdown = None if tls is None else shutdown
        self._sockets: list[socket.socket] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._reserve: int | None = None
        self._pause: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def port(self) -> int:
        """The port it listens on."""
        port: int = self._sockets[0].getsockname()[1]
        return port

    async def start(self, host: str, port: int) -> None:
        """Listen at all addresses of ``host``; port 0 takes a free one.

        Raises:
            OSError, UnicodeError: it cannot be bound, or looked up.
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
        self._keep_one()
        self._listen()

    def close(self) -> None:
        """Accept nobody any more; who is in the middle of a handshake is dropped."""
        if self._pause is not None:
            self._pause.cancel()
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        if self._opening:
            self._loop.call_soon(self._drop)  # after each has begun: from then on its transport closes the socket
        self._spend()

    async def wait_closed(self) -> None:
        """Until those that were dropped are gone."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _drop(self) -> None:
        for task in self._opening:
            task.cancel()

    def _bind(self, family: int, address: tuple[object, ...]) -> None:
        try:
            listening = socket.create_server(address, family=family, backlog=_BACKLOG)
        except OSError as exc:
            if exc.errno == errno.EAFNOSUPPORT:  # a kernel without IPv6 whose names have it
                return
            raise
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # of all that it accepts
            listening.setsockopt(socket.SOL_SOCKET, buffer, KERNEL)
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
                if exc.errno not in _EXHAUSTED:
                    raise
                if not self._turn_away(listening):
                    return
                continue
            visit = self._admit(address[0])
            if visit is None:
                accepted.close()
                continue
            accepted.setblocking(False)
            task = self._loop.create_task(self._open(accepted, visit))
            self._opening.add(task)
            task.add_done_callback(partial(self._opened, visit))

    async def _open(self, accepted: socket.socket, visit: V) -> None:
        await self._loop.connect_accepted_socket(
            lambda: self._make(visit),
            accepted,
            ssl=self._tls,
            ssl_handshake_timeout=self._deadline,
            ssl_shutdown_timeout=self._shutdown,
        )

    def _opened(self, visit: V, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        failure = None if task.cancelled() else task.exception()
        if task.cancelled() or failure is not None:
            self._failed(visit)
        if failure is not None and not isinstance(failure, OSError):  # OSError: no handshake, or none in time
            self._loop.call_exception_handler({"message": "a connection failed", "exception": failure})

    # --- out of descriptors -----------------------------------------------------------------------------------

    def _turn_away(self, listening: socket.socket) -> bool:
        """Close one that waits, by the descriptor in reserve. False: it did not help, nobody is accepted a while."""
        self._exhausted()
        if self._spend():
            with suppress(OSError):
                listening.accept()[0].close()
            if self._keep_one():
                return True
        for each in self._sockets:
            self._loop.remove_reader(each)
        self._pause = self._loop.call_later(_PAUSE, self._resume)
        return False

    def _resume(self) -> None:
        self._keep_one()
        self._listen()

    def _keep_one(self) -> bool:
        if self._reserve is None:
            with suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._reserve is not None

    def _spend(self) -> bool:
        reserve, self._reserve = self._reserve, None
        if reserve is None:
            return False
        os.close(reserve)
        return True


def most_connections(wanted: int) -> int:
    """``wanted``, or as many as the descriptors suffice for, which is also what 0 means. A peer is a descriptor, and
    the usual soft limit of 1,024 is too few, so that is raised as far as the administrator allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    suffice = 1 << 30 if soft == resource.RLIM_INFINITY else max(1, soft - SPARE)
    if wanted not in (0, MOST_CONNECTIONS) and wanted > suffice:
        logger.warning("! %d descriptors suffice for %d connections; see ulimit -n, LimitNOFILE=", soft, suffice)
    return min(wanted or suffice, suffice)


async def is_loopback(host: str) -> bool:
    """Whether only this machine reaches ``host``, an address or a name, by all that it stands for.

    Raises:
        OSError, UnicodeError: it cannot be looked up.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        host or None, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return all(ipaddress.ip_address(str(where[4][0]).partition("%")[0]).is_loopback for where in found)
