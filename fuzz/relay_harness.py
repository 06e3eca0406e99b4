"""A complete relay on in-memory transports and a manual clock, reused for all inputs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, cast

from server.config import RelayConfig
from server.relay import Relay
from server.rooms.rooms import Rooms
from server.sessions import Sessions
from server.transport.connection import Client, RelayInterface

from .byte_reader import ByteReader
from .clock import Clock
from .memory_transport import MemoryTransport

READ: Final = 32 * 1024
"""Bytes that the relay reads at once."""

NO_RATES: Final[dict[str, Any]] = dict.fromkeys(
    (
        *("message_rate", "byte_rate", "copy_rate", "address_connect_rate", "address_join_rate"),
        *("address_message_rate", "address_byte_rate", "address_copy_rate", "address_sockets"),
    ),
    0,
)
"""No rate limits: they depend on real time, but runs must be reproducible."""

OPENING: Final = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class _Recorder:
    """A proxy between the clients and the relay's sessions that records what the clients report."""

    def __init__(self, sessions: Sessions) -> None:
        self.received: dict[Client, list[tuple[str, bytes]]] = {}
        """By client: ``text`` with the message, or the error code of a message rejected before parsing."""
        self._sessions = sessions

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sessions, name)

    def message_received(self, client: Client, data: bytes) -> None:
        self.received.setdefault(client, []).append(("text", data))
        self._sessions.message_received(client, data)

    def reject(self, client: Client, code: str, message: str) -> None:
        self.received.setdefault(client, []).append((code, b""))
        self._sessions.reject(client, code, message)


class _NoErrors(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(f"logged as an error: {record.getMessage()}") from (record.exc_info or (None, None))[1]


class RelayHarness:
    """One relay in an event loop with a manual clock. Reused, because it must be empty after every input."""

    def __init__(self, config: RelayConfig) -> None:
        self.loop = Clock()
        self.failures: list[BaseException | str] = []
        self.loop.set_exception_handler(
            lambda _, context: self.failures.append(context.get("exception") or context["message"])
        )
        self.relay = Relay(config)
        self.recorder = _Recorder(self.relay.sessions)
        self.loop.run_until_complete(self.relay.start())
        self._no_errors = _NoErrors(logging.ERROR)
        logging.getLogger("server").addHandler(self._no_errors)

    def close(self) -> None:
        """Stop the relay and restore logging."""
        logging.getLogger("server").removeHandler(self._no_errors)
        self.loop.run_until_complete(self.relay.stop())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def turn(self) -> None:
        """Run one turn of the event loop. Raises any failure recorded in a callback."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        if self.failures:
            failure = self.failures.pop()
            raise failure if isinstance(failure, BaseException) else AssertionError(failure)

    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)
        for _ in range(3):
            self.turn()

    def connect(self, address: str = "192.0.2.1") -> tuple[Client, MemoryTransport]:
        record = self.relay.admission.admit(address, self.loop.time())
        assert record is not None and record.refusal is None
        client = Client(cast(RelayInterface, self.recorder), record)
        asyncio._set_running_loop(self.loop)  # as in a callback
        try:
            return client, MemoryTransport(self.loop, client, address)
        finally:
            asyncio._set_running_loop(None)

    def run(self, what: Any, *args: Any) -> None:
        """Call ``what`` from the event loop and run its consequences."""
        self.loop.call_soon(what, *args)
        for _ in range(3):
            self.turn()

    def clear(self) -> None:
        """Cut all connections and let all time-outs pass; then check that nothing is left."""
        relay, sessions = self.relay, self.relay.sessions
        for client in list(sessions.clients):
            client.abort()
        for _ in range(8):
            self.wait(relay.config.grace)
        assert not sessions.clients, "a closed connection is still known"
        rooms = sessions.rooms
        assert isinstance(rooms, Rooms), "a standalone relay"
        assert len(rooms) == 0 and not rooms.rooms(), "a seat was never freed"
        assert not rooms._seats and not rooms._claims, "a claim or a seat of a closed connection"
        assert not len(sessions.keepalive), "a closed connection is still pinged"
        budget = sessions.memory_budget
        assert not budget.used and not budget._held, "buffered bytes of a closed connection are counted"
        assert not relay.admission._connections, "a closed connection is counted"
        assert not any(address.sockets for address in relay.admission._addresses._known.values())
        assert not sessions._to_flush and not sessions._commands
        self.recorder.received = {}


def relay_target(
    config: RelayConfig, play: Callable[[RelayHarness, ByteReader], None]
) -> tuple[Callable[[bytes], None], Callable[[], None]]:
    """Return ``test_one`` and ``close`` of a target; its inputs share one harness, created with the first input."""
    harnesses: list[RelayHarness] = []

    def test_one(data: bytes) -> None:
        if not harnesses:
            harnesses.append(RelayHarness(config))
        play(harnesses[0], ByteReader(data))

    def close() -> None:
        while harnesses:
            harnesses.pop().close()

    return test_one, close
