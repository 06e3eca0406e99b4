"""TLS: versions, a new certificate during operation, and clients without TLS."""

from __future__ import annotations

import asyncio
import signal
import ssl
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect

from peer.errors import ConfigError
from server.relay import Relay, RelayConfig
from server.transport.tls import Certificate

from ..keys import MAKERS, certificate, pair, serial, serial_of
from ..wire import DEADLINE, Peer, Raw, process, relay, until


def trusting(path: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=path)


def url(port: int) -> str:
    return f"wss://localhost:{port}/ws"


def shown(ws: ClientConnection) -> int:
    return serial(ws.transport.get_extra_info("ssl_object").getpeercert(binary_form=True))


async def test_peers_join_over_tls(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    async with relay(tls_cert=pem) as server:
        assert server.url == f"wss://127.0.0.1:{server.port}/ws" and server.page.startswith("https://")
        async with (
            connect(url(server.port), ssl=trusting(pem)) as first,
            connect(url(server.port), ssl=trusting(pem), max_size=None) as second,
        ):
            a, b = Peer(first), Peer(second)
            a.id = "A"
            await a.send({"type": "join", "peerId": "A"})
            assert (await a.get())["peers"] == []
            await b.send({"type": "join", "peerId": "B"})
            assert (await b.get())["peers"] == ["A"]
            sdp = "x" * 200_000  # larger than a TLS record and a read
            await a.send_message("offer", to="B", sdp=sdp)
            assert (await b.get())["sdp"] == sdp


async def test_page_is_served_over_tls(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    async with relay(tls_cert=pem) as server:
        reader, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting(pem))
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), DEADLINE)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"</html>" in answer
        writer.close()


async def test_own_page_over_tls_is_the_own_origin(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    async with relay(tls_cert=pem, token="secret") as server:
        for origin, welcome in (("https://relay.example", True), ("http://relay.example", False)):
            reader, writer = await asyncio.open_connection("localhost", server.port, ssl=trusting(pem))
            writer.write(
                b"GET /ws HTTP/1.1\r\nHost: relay.example\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                b"Origin: %b\r\n\r\n" % origin.encode()
            )
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
            assert head.startswith(b"HTTP/1.1 101 " if welcome else b"HTTP/1.1 403 ")
            writer.close()


async def test_old_tls_versions_are_rejected(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    async with relay(tls_cert=pem) as server:
        for version, welcome in (("-tls1_1", False), ("-tls1_2", True), ("-tls1_3", True)):
            there = f"127.0.0.1:{server.port}"
            done = await asyncio.to_thread(
                subprocess.run,
                ["openssl", "s_client", "-connect", there, version, "-cipher", "ALL:@SECLEVEL=0"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=DEADLINE,
            )
            assert (done.returncode == 0) is welcome, done


async def test_new_certificate_applies_to_new_connections(tmp_path: Path) -> None:
    used, fresh = tmp_path / "used.pem", tmp_path / "fresh.pem"
    old, new = serial_of(certificate(used)), serial_of(certificate(fresh))
    before, after = trusting(str(used)), trusting(str(fresh))
    async with relay(tls_cert=str(used)) as server, connect(url(server.port), ssl=before) as first:
        a = Peer(first)
        await a.send({"type": "join", "peerId": "A"})
        assert (await a.get())["peers"] == [] and shown(first) == old
        fresh.replace(used)
        server.reload()
        async with connect(url(server.port), ssl=after) as second:
            assert shown(second) == new
            b = Peer(second)
            await b.send({"type": "join", "peerId": "B"})
            assert (await b.get())["peers"] == ["A"]
            assert await a.get() == {"type": "peer-joined", "peerId": "B"}


@pytest.mark.parametrize("content", [b"", b"nonsense", None, "another key"])
async def test_bad_new_certificate_is_logged_and_the_old_one_kept(
    tmp_path: Path, content: bytes | str | None, caplog: pytest.LogCaptureFixture
) -> None:
    pem = tmp_path / "a.pem"
    number = serial_of(certificate(pem))
    context = trusting(str(pem))
    async with relay(tls_cert=str(pem)) as server:
        if content is None:
            pem.unlink()
        elif isinstance(content, bytes):
            pem.write_bytes(content)
        else:
            content = pem.read_bytes()
            pair(tmp_path, MAKERS["ES256"]())
            pem.write_bytes((tmp_path / "key.pem").read_bytes() + content[content.index(b"-----BEGIN CERT") :])
        server.reload()
        assert "the old certificate stays in use: --tls-cert: " in caplog.text and str(pem) in caplog.text
        async with connect(url(server.port), ssl=context) as ws:
            assert shown(ws) == number


async def test_reload_without_tls_does_nothing() -> None:
    async with relay() as server:
        server.reload()


def test_unusable_certificate_files_are_named(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    private, public = pair(tmp_path, MAKERS["ES256"]())
    with pytest.raises(ConfigError, match=r"--tls-cert: .* and .*key\.pem: the key does not match the certificate"):
        Certificate(pem, private)
    with pytest.raises(ConfigError, match=r"nowhere\.pem: No such file"):
        Certificate(str(tmp_path / "nowhere.pem"), None)
    with pytest.raises(ConfigError, match=r"key\.pub: not a certificate and its key"):
        Certificate(public, None)
    with pytest.raises(ConfigError, match="--tls-key: a key without a certificate"):
        Relay(RelayConfig(tls_key=private))


async def test_clients_without_tls_time_out(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    async with relay(tls_cert=pem, join_timeout=1.0) as server:
        plain, silent = await Raw.connect(server.port), await Raw.connect(server.port)
        plain.writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in await plain.rest()
        async with connect(url(server.port), ssl=trusting(pem)) as ws:
            a = Peer(ws)
            a.id = "A"
            await a.send({"type": "join", "peerId": "A"})
            assert (await a.get())["peers"] == []
            assert await silent.rest() == b""
            await a.barrier()
        for raw in (plain, silent):
            await raw.end()


async def test_slow_reader_over_tls_is_closed_alone(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    trusted = trusting(pem)
    async with relay(tls_cert=pem, max_send_queue=256 * 1024) as server:
        there = url(server.port)
        async with (
            connect(there, ssl=trusted, max_queue=1, close_timeout=0.1) as slow,
            connect(there, ssl=trusted) as ws,
        ):
            a, stalled = Peer(ws), Peer(slow)
            a.id = "A"
            await stalled.send({"type": "join", "peerId": "stalled"})
            await stalled.get()
            await a.send({"type": "join", "peerId": "A"})
            await a.get()
            slow.transport.pause_reading()
            while "stalled" in server.sessions.rooms.peers():
                await a.send_message("offer", to="stalled", sdp="x" * 100_000)
                await a.ws.ping()
            assert await a.get() == {"type": "peer-left", "peerId": "stalled"}
            await a.barrier()
            slow.transport.abort()


async def test_sighup_reloads_the_certificate(tmp_path: Path) -> None:
    used, fresh = tmp_path / "used.pem", tmp_path / "fresh.pem"
    certificate(used)
    new = serial_of(certificate(fresh))
    context = ssl._create_unverified_context()
    with process(tls_cert=str(used)) as server:
        fresh.replace(used)
        server.process.send_signal(signal.SIGHUP)
        number = 0
        async with asyncio.timeout(DEADLINE):
            while number != new:
                async with connect(url(server.port), ssl=context) as ws:
                    number = shown(ws)
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, DEADLINE) == 0


async def test_endless_handshakes_count_and_time_out(tmp_path: Path) -> None:
    async with relay(tls_cert=certificate(tmp_path / "a.pem"), join_timeout=0.5, max_connections=3) as server:
        silent = [await Raw.connect(server.port) for _ in range(3)]
        silent[0].writer.write(b"\x16\x03\x01")  # a record without an end
        await until(lambda: server.admission._connections == 3)
        assert await silent[0].rest() == b""
        await until(lambda: server.admission._connections == 0)
        for raw in silent:
            await raw.end()


async def test_relay_stops_during_handshakes(tmp_path: Path) -> None:
    async with relay(tls_cert=certificate(tmp_path / "a.pem")) as server:
        silent = [await Raw.connect(server.port) for _ in range(3)]
        await until(lambda: server.admission._connections == 3)
        await server.stop()
        assert server.admission._connections == 0
        for raw in silent:
            with suppress(ConnectionError):
                assert await raw.rest() == b""
            await raw.end()


async def test_handshake_and_join_share_one_deadline(tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem")
    async with relay(tls_cert=pem, join_timeout=1.5) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        await asyncio.sleep(1.0)  # most of it
        started = time.perf_counter()
        await writer.start_tls(trusting(pem), server_hostname="localhost")
        head = await asyncio.wait_for(reader.read(), DEADLINE)
        assert head.startswith(b"HTTP/1.1 408 ")
        assert time.perf_counter() - started < 1.2, "not another one and a half"
        writer.close()
