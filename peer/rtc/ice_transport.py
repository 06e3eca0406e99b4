"""The ICE transport under a DTLS association. It outlives the ``aioice.Connection`` that it uses, so ICE can restart.

Hook: the engine accepts an offer that restarts ICE, but keeps the old credentials and candidates (RFC 8445 9, RFC
9429 5.3.1), so the call ends when the old path does. Here a second ``aioice.Connection`` is connected beside the
first one, which receives and sends until then. DTLS and SRTP notice nothing (docs/decisions/0022).

Everything that has to see the datagrams or the checks of an ``aioice.Connection`` is attached here, once, and not to
the connection. Contract tests are in ``tests/rtc/test_ice_transport.py``.

Must never: read a description, gather, or decide when to restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, cast

from aioice import Connection as IceConnection
from aiortc import RTCDtlsTransport

from ..log_limit import LimitedLogger
from ..timeouts import CleanupTimeout
from . import aiortc_hooks
from .sdp import IceParameters

log = LimitedLogger(logging.getLogger(__name__))

MAX_QUEUED: Final = 256
"""Maximum number of received datagrams that wait for the engine: DTLS, RTCP, and RTP before the keys are known.
Further ones are dropped, as a full socket would. The engine's own queue is unbounded."""

RESTART_TIMEOUT: Final = 15.0
"""Maximum time to connect after a restart, in seconds. Equals the time that a new call has to connect."""

LINGER: Final = 3.0
"""Time for which the replaced connection still receives, in seconds. The remote changes to the new path up to one RTT
later, or one retransmission of a check if a packet is lost."""

CLOSE_TIMEOUT: Final = 3.0
"""Maximum time for closing one connection, in seconds. Only a TURN server that does not answer takes longer."""

_ENGINE_ATTRIBUTES: Final = ("_connection", "_recv", "_send", "iceGatherer", "state")
_ICE_ATTRIBUTES: Final = ("_queue", "_event_waiter", "_transport_policy", "request_received", "connect", "send")


class _Inbox:
    """A substitute for the queue of one ``aioice.Connection``: datagrams go to ``receive``, its end to ``ended``."""

    def __init__(self, receive: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self._receive = receive
        self._ended = ended

    def put_nowait(self, item: tuple[bytes, int] | None) -> None:
        if item is None:
            self._ended()
        else:
            self._receive(item[0])


class IceTransport:
    """ICE transport of one DTLS transport. ``of`` installs it, or returns the installed one.

    It has to be installed before the transport connects: a pending receive of the engine cannot be redirected.
    """

    def __init__(self, dtls: RTCDtlsTransport) -> None:
        self._engine = engine = cast(Any, dtls).transport
        for name in _ENGINE_ATTRIBUTES:
            assert hasattr(engine, name), f"the engine's ICE transport no longer has {name}"
        assert engine.state == "new", "installed too late"
        self.checks = 0
        """Number of ICE checks received."""
        self.receive_rtp: Callable[[bytes], bool] = lambda data: False
        """Called with each datagram that is not STUN. Returns whether it has processed it."""
        self.on_replaced: Callable[[], None] = lambda: None
        """Called after another ``aioice.Connection`` has come into use."""
        self._newest: Any = engine._connection
        self._retired: list[Any] = []  # connections that have been replaced, until they are closed
        self._connecting: set[Any] = set()  # those whose own ``connect`` was called
        self._settled = asyncio.Event()  # a connection has been connected, or the newest one has failed
        self._failed = False
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._ended = False
        engine._recv, engine._send = self._recv, self._send
        self._adopt(engine._connection)

    @classmethod
    def of(cls, dtls: RTCDtlsTransport) -> IceTransport:
        """Return the ICE transport of a DTLS transport. The first call installs it."""
        return aiortc_hooks.attached(dtls, cls)

    @property
    def connection(self) -> Any:
        """The ``aioice.Connection`` in use. During a restart it is the old one, until the new one is connected."""
        return self._engine._connection

    @property
    def newest(self) -> Any:
        """The ``aioice.Connection`` of the latest descriptions."""
        return self._newest

    # --- restart ---

    def new_connection(self) -> Any:
        """Return a connection with new credentials, in the same role (RFC 8445 6.1.1) and with the same policy."""
        old = self._newest
        return IceConnection(ice_controlling=old.ice_controlling, transport_policy=old._transport_policy)

    def begin_restart(self, connection: Any) -> None:
        """Describe ``connection`` in our next description, before which its host candidates have to be gathered.

        If a restart is in progress, it is given up: the newest one counts. A connection that has never been
        connected is replaced at once.
        """
        previous, self._newest = self._newest, connection
        _hand_over_wait(previous, connection)  # the old one may end before the new one is connected
        self._adopt(connection)
        self._engine.iceGatherer._connection = connection
        if previous is not self.connection:
            self._retired.append(previous)
        if not self._settled.is_set():
            self._use(connection)

    async def complete_restart(self, connection: Any, remote: IceParameters) -> None:
        """Connect ``connection`` and use it. If it does not connect, the transport fails.

        Returns when the replaced connection is closed, or when a newer restart has taken over.
        """
        connection.remote_username, connection.remote_password = remote.username_fragment, remote.password
        connection.remote_is_lite = remote.is_lite
        await asyncio.gather(self._close_retired(), self._replace_by(connection))

    async def close(self) -> None:
        """Close the connections that are not in use. The engine closes the one that is."""
        if self._newest is not self.connection:
            _hand_over_wait(self._newest, self.connection)
            self._retired.append(self._newest)
        await self._close_retired()

    async def _replace_by(self, connection: Any) -> None:
        try:
            async with asyncio.timeout(RESTART_TIMEOUT):
                await self._connect(connection)
        except (ConnectionError, TimeoutError) as exc:
            if connection is self._newest:
                log.info("= the ICE restart failed: %s", exc or f"no connectivity within {RESTART_TIMEOUT:.0f} s")
                self._retired.append(connection)
                await self._fail()
        else:
            if connection is self._newest:
                self._use(connection)
                await asyncio.sleep(LINGER)
        await self._close_retired()

    def _use(self, connection: Any) -> None:
        """Send with ``connection`` from now on."""
        old = self.connection
        if old is connection:
            return
        self._engine._connection = connection
        self._retired.append(old)
        self.on_replaced()

    async def _fail(self) -> None:
        """Close the connection in use, so that the engine reports a failed transport."""
        self._failed = True
        self._settled.set()
        await self._engine._connection.close()

    async def _close_retired(self) -> None:
        for connection in tuple(self._retired):
            try:
                async with CleanupTimeout(CLOSE_TIMEOUT):
                    await connection.close()
            except Exception as exc:
                log.warning("a replaced ICE connection may have left sockets open: %s", exc or type(exc).__name__)
            if connection in self._retired:  # not closed by another task in the meantime
                self._retired.remove(connection)
                self._connecting.discard(connection)

    # --- hooks of each connection ---

    def _adopt(self, connection: Any) -> None:
        for name in _ICE_ATTRIBUTES:
            assert hasattr(connection, name), f"aioice no longer has {name}"
        connection._queue = _Inbox(self.receive, lambda: self._connection_ended(connection))
        request_received = connection.request_received

        def count_and_forward(*args: Any) -> None:
            self.checks += 1
            request_received(*args)

        connection.request_received = count_and_forward
        connection._peer_connect, connection.connect = connection.connect, lambda: self._connect_engine(connection)

    async def _connect(self, connection: Any) -> None:
        """Run the connection's own ``connect``, unless it was called before."""
        if connection in self._connecting:
            return
        self._connecting.add(connection)
        await connection._peer_connect()
        if connection is self._newest:
            self._settled.set()

    async def _connect_engine(self, connection: Any) -> None:
        """Connect, if necessary with a newer connection. Replaces ``connect``, which the engine calls once.

        Raises:
            ConnectionError: the newest connection has failed.
        """
        try:
            await self._connect(connection)
        except ConnectionError:
            if connection is self._newest:
                raise
        await self._settled.wait()
        if self._failed:
            raise ConnectionError("the ICE restart failed")

    def _connection_ended(self, connection: Any) -> None:
        """End the transport with the connection in use, unless a restart is about to replace it."""
        if connection is self._engine._connection and (connection is self._newest or self._failed):
            self._ended = True
            self._queue.put_nowait(None)

    # --- datagrams ---

    def receive(self, data: bytes) -> None:
        """Process a datagram that is not STUN. An empty one, which anyone can send, would raise in the engine."""
        if not self.receive_rtp(data) and data and self._queue.qsize() < MAX_QUEUED:
            self._queue.put_nowait(data)

    async def _recv(self) -> bytes:
        if self._ended and self._queue.empty():
            raise ConnectionError("the transport is closed")
        data = await self._queue.get()
        if data is None:
            raise ConnectionError("the transport was closed")
        return data

    async def _send(self, data: bytes) -> None:
        await self._engine._connection.send(data)


def _hand_over_wait(old: Any, new: Any) -> None:
    """Let the engine, which waits for the end of the connection ``old``, wait for that of ``new``."""
    new._event_waiter, old._event_waiter = old._event_waiter, None
