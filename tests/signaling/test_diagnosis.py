"""Diagnosis of a failed connection: plain words, no credentials, and the proxy where it is to blame."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

from peer.signaling.client import Disconnected
from peer.signaling.diagnosis import diagnose, is_connection_refused

from .wire import Client

pytestmark = pytest.mark.usefixtures("short_delays")


@pytest.mark.parametrize(
    ("exc", "why"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (OSError(113, "Connect call failed ('10.0.0.1', 1)"), "no route to host"),
        (
            socket.gaierror(-2, "Name or service not known"),
            "cannot resolve relay: Name or service not known",
        ),
    ],
)
def test_diagnose_system_error_returns_plain_words(exc: OSError, why: str) -> None:
    assert diagnose(exc, "ws://relay/ws").why == why


async def test_diagnosis_of_failed_url_has_no_credentials(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client("ws://me:SEC:RET@127.0.0.1:9/ws#fragment") as client:
        down = await client.next(Disconnected)
    assert isinstance(down, Disconnected)
    assert "127.0.0.1:9/ws#fragment" in down.diagnosis.why
    assert "SEC" not in caplog.text + down.diagnosis.why


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (None, "the proxy http://127.0.0.1:{port} refused the connection"),
        ("407 Proxy Authentication Required", "the proxy http://127.0.0.1:{port} answered 407 Proxy Authentication"),
    ],
)
async def test_proxy_that_fails_is_named(monkeypatch: pytest.MonkeyPatch, status: str | None, why: str) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()

    made = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = made.sockets[0].getsockname()[1]
    if status is None:
        made.close()
    monkeypatch.setenv("http_proxy", f"http://user:secret@127.0.0.1:{port}")
    async with Client("ws://relay.invalid:8080/ws") as client:
        down = await client.next(Disconnected)
    made.close()
    assert isinstance(down, Disconnected)
    assert down.diagnosis.why.startswith(why.format(port=port))
    assert down.diagnosis.hint is not None and "no_proxy" in down.diagnosis.hint


def test_proxy_is_not_blamed_for_errors_of_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert diagnose(ConnectionRefusedError(), "ws://localhost/ws").why == "connection refused"
    assert "proxy" not in diagnose(ConnectionResetError(), "ws://relay.invalid/ws").why
    monkeypatch.setenv("no_proxy", "relay.invalid")
    assert diagnose(ConnectionRefusedError(), "ws://relay.invalid/ws").why == "connection refused"
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", "nonsense://x")
    assert diagnose(ConnectionRefusedError(), "ws://relay.invalid/ws").why != ""


async def test_connection_refused_at_any_address_is_recognized() -> None:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    for host in ("127.0.0.1", "localhost"):
        with pytest.raises(OSError) as caught:
            await asyncio.open_connection(host, port)
        assert is_connection_refused(caught.value)
    several = OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 101] Network is unreachable")
    assert is_connection_refused(several)
    assert not is_connection_refused(OSError("Multiple exceptions: [Errno 101] Network is unreachable"))
    assert not is_connection_refused(TimeoutError())
