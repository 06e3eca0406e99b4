"""The listener by itself, on loopback: what it admits, drops and does without descriptors."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from server.config import MAX_CONNECTIONS
from server.transport import listener as module
from server.transport.listener import RESERVED_DESCRIPTORS, Listener, is_loopback, max_connections_allowed

from ..keys import certificate
from ..wire import DEADLINE


class Echo(asyncio.Protocol):
    """A protocol that sends what it was made with."""

    def __init__(self, admitted: str) -> None:
        self.admitted = admitted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writer = cast(asyncio.Transport, transport)
        writer.write(self.admitted.encode())
        writer.close()


class Fixture:
    """A listener, and what it reported."""

    def __init__(self, admit: Callable[[str], str | None] | None, **options: Any) -> None:
        self.hosts: list[str] = []
        self.failed: asyncio.Queue[str] = asyncio.Queue()
        self.exhausted = 0
        self.closed = False
        self.made: list[str] = []
        self._admit = admit or (lambda host: f"admitted {host}")
        settings = {"tls": None, "handshake_timeout": DEADLINE, "shutdown_timeout": DEADLINE} | options
        self.listener: Listener[str] = Listener(
            self.admit, self.make, self.failed.put_nowait, self.count_exhausted, **settings
        )

    def admit(self, host: str) -> str | None:
        self.hosts.append(host)
        return self._admit(host)

    def make(self, admitted: str) -> Echo:
        self.made.append(admitted)
        return Echo(admitted)

    def count_exhausted(self) -> None:
        self.exhausted += 1

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.listener.close()
            await self.listener.wait_closed()

    async def read(self, host: str = "127.0.0.1") -> bytes:
        """Connect, and read until the end."""
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection(host, self.listener.port)
            try:
                return await reader.read()
            finally:
                writer.close()


@asynccontextmanager
async def listening(
    admit: Callable[[str], str | None] | None = None, host: str = "127.0.0.1", **options: Any
) -> AsyncIterator[Fixture]:
    fixture = Fixture(admit, **options)
    await fixture.listener.start(host, 0)
    try:
        yield fixture
    finally:
        await fixture.close()


def server_context(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path / "a.pem"))
    return context


async def test_admitted_connection_gets_a_protocol() -> None:
    async with listening() as server:
        assert await server.read() == b"admitted 127.0.0.1"
        assert server.hosts == ["127.0.0.1"] and server.failed.empty()


async def test_rejected_connection_is_closed_without_a_protocol() -> None:
    async with listening(lambda host: None) as server:
        assert await server.read() == b""
        assert server.hosts == ["127.0.0.1"] and not server.made


async def test_all_addresses_of_a_host_have_one_port() -> None:
    async with listening(host="localhost") as server:
        for *_, address in await asyncio.get_running_loop().getaddrinfo("localhost", None, type=socket.SOCK_STREAM):
            assert (await server.read(str(address[0]))).startswith(b"admitted ")


async def test_port_in_use_raises() -> None:
    async with listening() as server:
        with pytest.raises(OSError) as error:
            await Fixture(None).listener.start("127.0.0.1", server.listener.port)
        assert error.value.errno == errno.EADDRINUSE


async def test_invalid_host_name_raises() -> None:
    with pytest.raises((OSError, UnicodeError)):
        await Fixture(None).listener.start("a" * 64 + ".invalid", 0)


async def test_closed_listener_refuses_connections() -> None:
    async with listening() as server:
        port = server.listener.port
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_accepted_sockets_have_small_buffers() -> None:
    async with listening() as server:
        (sock,) = server.listener._sockets
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) == 2 * module.SOCKET_BUFFER


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_data_that_is_not_tls_is_reported_as_failed(tmp_path: Path, data: bytes) -> None:
    async with listening(tls=server_context(tmp_path)) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
        writer.write(data)
        async with asyncio.timeout(DEADLINE):
            assert await server.failed.get() == "admitted 127.0.0.1"
        writer.close()


async def test_tls_handshake_that_times_out_is_reported_as_failed(tmp_path: Path) -> None:
    async with listening(tls=server_context(tmp_path), handshake_timeout=0.05) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
        async with asyncio.timeout(DEADLINE):
            assert await server.failed.get() == "admitted 127.0.0.1"
        writer.close()


async def test_close_drops_connections_in_a_tls_handshake(tmp_path: Path) -> None:
    async with listening(tls=server_context(tmp_path)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
        async with asyncio.timeout(DEADLINE):
            while not server.hosts:
                await asyncio.sleep(0)
            await server.close()
            assert await reader.read() == b""
            assert await server.failed.get() == "admitted 127.0.0.1"
        writer.close()


async def test_protocol_that_raises_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: reported.append(context))
    async with listening() as server:
        monkeypatch.setattr(server.listener, "_make", lambda admitted: 1 / 0)
        _, writer = await asyncio.open_connection("127.0.0.1", server.listener.port)
        async with asyncio.timeout(DEADLINE):
            assert await server.failed.get() == "admitted 127.0.0.1"
            while not reported:
                await asyncio.sleep(0)
        writer.close()
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


# --- out of descriptors -------------------------------------------------------------------------------------------


class Waiting:
    """A listening socket with one connection. ``accept`` fails until a descriptor is free."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.client, self._accepted = socket.socketpair()
        self._waiting = True

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        if not self._waiting:
            raise BlockingIOError
        self._waiting = False
        return self._accepted, ("127.0.0.1", 1)


async def test_reserve_accepts_and_closes_a_connection() -> None:
    waiting = Waiting(failures=1)
    async with listening() as server:
        server.listener._accept(cast(socket.socket, waiting))
        assert server.exhausted == 1 and not server.hosts
        assert waiting.client.recv(1) == b"", "closed at once"
        assert server.listener._reserve is not None
        assert await server.read() == b"admitted 127.0.0.1", "goes on"
    waiting.client.close()


async def test_accepting_pauses_when_the_reserve_does_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSE", 0.05)
    waiting = Waiting(failures=2)
    async with listening() as server:
        with monkeypatch.context() as patch:
            patch.setattr(module.os, "open", _no_descriptor)
            server.listener._accept(cast(socket.socket, waiting))
        assert server.exhausted == 1 and server.listener._reserve is None
        assert await server.read() == b"admitted 127.0.0.1", "accepted after the pause"
        assert server.listener._reserve is not None
    waiting.client.close()
    waiting.accept()[0].close()


def _no_descriptor(*_: Any) -> int:
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


# --- limits and addresses -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "hard", "allowed", "warns"),
    [
        (0, 4096, 4096 - RESERVED_DESCRIPTORS, False),
        (100, 4096, 100, False),
        (5000, 4096, 4096 - RESERVED_DESCRIPTORS, True),
        (MAX_CONNECTIONS, 4096, 4096 - RESERVED_DESCRIPTORS, False),
        (5000, resource.RLIM_INFINITY, 5000, False),
        (0, 10, 1, False),
    ],
)
def test_connections_are_limited_by_descriptors(
    wanted: int,
    hard: int,
    allowed: int,
    warns: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised: list[tuple[int, int]] = []
    monkeypatch.setattr(module.resource, "getrlimit", lambda which: (min(1024, hard) if hard > 0 else 1024, hard))
    monkeypatch.setattr(module.resource, "setrlimit", lambda which, limits: raised.append(limits))
    assert max_connections_allowed(wanted) == allowed
    assert raised == [(hard, hard)]
    assert ["LimitNOFILE" in record.getMessage() for record in caplog.records] == [True] * warns


def test_soft_limit_counts_where_it_cannot_be_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not permitted")

    monkeypatch.setattr(module.resource, "getrlimit", lambda which: (1024, 4096))
    monkeypatch.setattr(module.resource, "setrlimit", refuse)
    assert max_connections_allowed(0) == 1024 - RESERVED_DESCRIPTORS


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("127.8.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("", False)],
)
async def test_loopback_is_recognized(host: str, loopback: bool) -> None:
    assert await is_loopback(host) is loopback
