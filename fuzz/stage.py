"""A whole relay that plays before wires in memory, in a time of its own, for as many inputs as there are."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from server.client import Client
from server.config import RelayConfig
from server.relay import Relay
from server.room import Rooms

from .clock import Clock
from .octets import Octets
from .wire import Wire

READ: Final = 32 * 1024
"""Octets that the relay reads at once."""

NO_RATES: Final[dict[str, Any]] = dict.fromkeys(
    (
        *("message_rate", "octet_rate", "copy_rate", "address_connect_rate", "address_join_rate"),
        *("address_message_rate", "address_octet_rate", "address_copy_rate", "address_sockets"),
    ),
    0,
)
"""Rates go by the machine's clock, and an input must do the same each time."""

OPENING: Final = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class _Watched(Relay):
    """A relay that is looked at: what its clients said, as it was told."""

    def __init__(self, config: RelayConfig) -> None:
        super().__init__(config)
        self.said: dict[Client, list[tuple[str, bytes]]] = {}
        """By client: ``text`` with what it said, or the code of what was refused before anybody read it."""
        self._telling = False

    def text(self, client: Client, octets: bytes) -> None:
        self.said.setdefault(client, []).append(("text", octets))
        self._telling = True
        try:
            super().text(client, octets)
        finally:
            self._telling = False

    def refuse(self, client: Client, code: str, message: str) -> None:
        if not self._telling:
            self.said.setdefault(client, []).append((code, b""))
        super().refuse(client, code, message)


class _NoErrors(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(f"logged as an error: {record.getMessage()}") from (record.exc_info or (None, None))[1]


class Stage:
    """One relay in a loop whose time stands still; made once, because it must be as new after every input."""

    def __init__(self, config: RelayConfig) -> None:
        self.loop = Clock()
        self.failures: list[BaseException | str] = []
        self.loop.set_exception_handler(
            lambda _, context: self.failures.append(context.get("exception") or context["message"])
        )
        self.relay = _Watched(config)
        self.loop.run_until_complete(self.relay.start())
        self._no_errors = _NoErrors(logging.ERROR)
        logging.getLogger("server").addHandler(self._no_errors)

    def close(self) -> None:
        """The relay is stopped, and logging as it was."""
        logging.getLogger("server").removeHandler(self._no_errors)
        self.loop.run_until_complete(self.relay.stop())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()

    def turn(self) -> None:
        """Let happen what is due."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        if self.failures:
            failure = self.failures.pop()
            raise failure if isinstance(failure, BaseException) else AssertionError(failure)

    def wait(self, seconds: float) -> None:
        self.loop.advance(seconds)
        for _ in range(3):
            self.turn()

    def connect(self, address: str = "192.0.2.1") -> tuple[Client, Wire]:
        visit = self.relay._guard.admit(address, self.loop.time())
        assert visit is not None and visit.refusal is None
        client = Client(self.relay, visit)
        asyncio._set_running_loop(self.loop)  # what a callback would find
        try:
            return client, Wire(self.loop, client, address)
        finally:
            asyncio._set_running_loop(None)

    def run(self, what: Any, *args: Any) -> None:
        """Call it as the loop would, and let happen what follows from it."""
        self.loop.call_soon(what, *args)
        for _ in range(3):
            self.turn()

    def clear(self) -> None:
        """All connections are cut, and the longest wait is over: nothing may be left."""
        relay = self.relay
        for client in list(relay._clients):
            client.abort()
        for _ in range(8):
            self.wait(relay.config.grace)
        assert not relay._clients, "a connection that is over is still known"
        rooms = relay._rooms
        assert isinstance(rooms, Rooms), "one relay, without a cluster"
        assert len(rooms) == 0 and not rooms.rooms(), "somebody sits in a room for ever"
        assert not rooms._seats and not rooms._claims, "a claim or a seat of a connection that is over"
        assert not len(relay._pings), "who is gone is still pinged"
        assert not relay.buffers.used and not relay.buffers._held, "octets of a connection that is over are counted"
        assert not relay._guard._visits, "a connection that is over is counted"
        assert not any(address.sockets for address in relay._guard._addresses._known.values())
        assert not relay._touched and not relay._commands
        relay.said = {}


def on_stage(
    config: RelayConfig, play: Callable[[Stage, Octets], None]
) -> tuple[Callable[[bytes], None], Callable[[], None]]:
    """A target's ``test_one`` and ``close``: each input is played on one stage, made when the first one comes."""
    stages: list[Stage] = []

    def test_one(data: bytes) -> None:
        if not stages:
            stages.append(Stage(config))
        play(stages[0], Octets(data))

    def close() -> None:
        while stages:
            stages.pop().close()

    return test_one, close
