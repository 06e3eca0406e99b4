"""Signaling client over TLS: which certificates it trusts, and what it suggests if one side does not speak TLS."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.server import ServerConnection, serve

from peer.signaling import messages
from peer.signaling.client import Disconnected, Joined
from peer.signaling.diagnosis import Diagnosis
from peer.signaling.relay_url import tls_context

from .wire import Client, empty_room, server

pytestmark = pytest.mark.usefixtures("short_delays")


@pytest.mark.parametrize("trusted", [True, False])
async def test_wss_joins_only_with_trusted_certificate(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serve(empty_room, "127.0.0.1", 0, ssl=context) as made:
        port = made.sockets[0].getsockname()[1]
        async with Client(f"wss://localhost:{port}") as client:
            if trusted:
                assert await client.next(Joined) == Joined(messages.PeerList(()))
            else:
                down = await client.next(Disconnected)
                assert isinstance(down, Disconnected) and "certificate" in down.diagnosis.why


async def test_wss_to_relay_without_tls_suggests_ws() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as made:
        url = f"://127.0.0.1:{made.sockets[0].getsockname()[1]}/ws"
        async with Client(f"wss{url}") as client:
            diagnosis = Diagnosis("it does not speak TLS", f"try ws{url}", permanent=True)
            assert await client.next(Disconnected) == Disconnected(diagnosis)


async def test_ws_to_relay_with_tls_suggests_wss(certificate: Path) -> None:
    async def never(socket: ServerConnection) -> None:
        raise AssertionError

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serve(never, "127.0.0.1", 0, ssl=context) as made:
        url = f"://127.0.0.1:{made.sockets[0].getsockname()[1]}/ws"
        async with Client(f"ws{url}") as client:
            down = await client.next(Disconnected)
            assert isinstance(down, Disconnected) and down.diagnosis.hint == f"if it speaks TLS, try wss{url}"
        async with Client(f"wss{url}", tls=tls_context(str(certificate))) as client:
            down = await client.next(Disconnected)
            assert isinstance(down, Disconnected)
            assert down.diagnosis == Diagnosis(
                "its certificate is not for 127.0.0.1", "use the host name in its certificate", permanent=True
            )


async def test_cacert_replaces_the_trust_of_the_system(certificate: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serve(empty_room, "127.0.0.1", 0, ssl=context) as made:
        url = f"wss://localhost:{made.sockets[0].getsockname()[1]}"
        async with Client(url, tls=tls_context(str(certificate))) as client:
            assert await client.next(Joined) == Joined(messages.PeerList(()))
        async with Client(url, tls=tls_context(None)) as client:
            down = await client.next(Disconnected)
            assert isinstance(down, Disconnected) and down.diagnosis.hint == "see --cacert"
            assert down.diagnosis.why == "its certificate is not trusted: self-signed certificate"
            assert down.diagnosis.permanent


async def test_ws_with_cacert_joins(certificate: Path) -> None:
    async with server(empty_room) as (_, url), Client(url, tls=tls_context(str(certificate))) as client:
        await client.next(Joined)
