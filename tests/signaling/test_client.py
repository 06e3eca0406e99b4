"""WebSocket client of the relay, against servers that conform, misbehave, stop and restart."""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import Server, ServerConnection, serve

from peer.errors import ConfigError
from peer.signaling import backoff, messages
from peer.signaling import client as signaling
from peer.signaling.client import (
    Disconnected,
    Joined,
    MessageReceived,
    Rejected,
    SignalingClient,
    SignalingEvent,
    check_url,
    tls_context,
    without_zone,
)
from peer.signaling.diagnosis import JOIN_UNANSWERED, Diagnosis, diagnose, is_connection_refused

Handler = Callable[[ServerConnection], Awaitable[None]]
EMPTY = json.dumps({"type": "peer-list", "peers": []})


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "BACKOFF_MIN", 0.02)
    monkeypatch.setattr(backoff, "BACKOFF_MAX", 0.1)
    monkeypatch.setattr(backoff, "MAX_RESTART_DELAY", 0.05)


@asynccontextmanager
async def server(handler: Handler, port: int = 0) -> AsyncIterator[tuple[Server, str]]:
    async with serve(handler, "127.0.0.1", port) as made:
        yield made, f"ws://127.0.0.1:{made.sockets[0].getsockname()[1]}/ws"


class Client:
    """A SignalingClient whose events are put into a queue."""

    def __init__(self, url: str, *, tls: ssl.SSLContext | None = None, **extra: str) -> None:
        self.events: asyncio.Queue[SignalingEvent] = asyncio.Queue()
        self.signaling = SignalingClient(url, messages.Join("me", **extra), self.events.put_nowait, tls=tls)

    async def __aenter__(self) -> Client:
        self._task = asyncio.ensure_future(self.signaling.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def next(self, kind: type[SignalingEvent]) -> SignalingEvent:
        async with asyncio.timeout(5):
            while True:
                event = await self.events.get()
                if isinstance(event, kind):
                    return event


@pytest.mark.parametrize(
    ("url", "plain", "host", "port"),
    [
        ("ws://[fe80::1%25eth0]:8080/ws", "ws://[fe80::1]:8080/ws", "fe80::1%eth0", 8080),
        ("ws://[fe80::1%eth0]:8080/ws", "ws://[fe80::1]:8080/ws", "fe80::1%eth0", 8080),
        ("wss://[fe80::1%25Wlan0]/ws", "wss://[fe80::1]:443/ws", "fe80::1%Wlan0", 443),
        ("ws://[fe80::1%252]/ws", "ws://[fe80::1]:80/ws", "fe80::1%2", 80),
    ],
)
def test_zone_of_an_address_is_decoded(url: str, plain: str, host: str, port: int) -> None:
    assert without_zone(check_url(url)) == (plain, {"host": host, "port": port})


@pytest.mark.parametrize("url", ["ws://[fe80::1]:8080/ws", "ws://relay.example/a%20b"])
def test_url_without_zone_is_unchanged(url: str) -> None:
    assert without_zone(url) == (url, {})


async def test_client_connects_to_an_address_with_a_zone() -> None:
    hosts = []

    async def room(socket: ServerConnection) -> None:
        assert socket.request is not None
        hosts.append(socket.request.headers["Host"])
        await socket.send(EMPTY)
        await socket.wait_closed()

    async with serve(room, "::1", 0) as made:
        port = made.sockets[0].getsockname()[1]
        async with Client(f"ws://[::1%251]:{port}/ws") as client:
            await client.next(Joined)
    assert hosts == [f"[::1]:{port}"]


async def test_client_connected_joins_and_reports_peers() -> None:
    first: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def room(socket: ServerConnection) -> None:
        first.set_result(str(await socket.recv()))
        await socket.send(json.dumps({"type": "peer-list", "peers": ["a", "b"]}))
        await socket.wait_closed()

    async with server(room) as (_, url), Client(url, room="attic", key="secret") as client:
        assert await client.next(Joined) == Joined(messages.PeerList(("a", "b")))
        assert json.loads(await first) == {"type": "join", "peerId": "me", "room": "attic", "key": "secret"}


async def test_peer_list_of_legacy_server_without_peers_is_empty() -> None:
    async def old(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type":"peer-list"}')
        await socket.wait_closed()

    async with server(old) as (_, url), Client(url) as client:
        assert await client.next(Joined) == Joined(messages.PeerList(()))


async def test_invalid_messages_are_ignored() -> None:
    async def noisy(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        for text in (b"\x00", "nonsense", "[]", '{"type": 1}', '{"type": "offer"}', '{"type":"candidate"}'):
            await socket.send(text)
        await socket.send('{"type": "peer-joined", "peerId": "x"}')
        await socket.wait_closed()

    async with server(noisy) as (_, url), Client(url) as client:
        assert await client.next(MessageReceived) == MessageReceived(messages.PeerJoined("x"))


async def test_client_without_relay_retries_until_it_joins() -> None:
    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        await socket.wait_closed()

    async with server(room) as (gone, url):
        port = int(url.split(":")[2].split("/")[0])
    del gone
    async with Client(url) as client:
        for _ in range(3):
            await client.next(Disconnected)
        async with server(room, port):
            await client.next(Joined)
        await client.next(Disconnected)
        async with server(room, port):
            await client.next(Joined)


async def test_messages_sent_while_relay_is_away_arrive_in_order() -> None:
    got: asyncio.Queue[str] = asyncio.Queue()

    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        async for text in socket:
            got.put_nowait(json.loads(text)["sdp"])

    async with server(room) as (_, url):
        port = int(url.split(":")[2].split("/")[0])
    async with Client(url) as client:
        await client.next(Disconnected)
        for number in range(3):
            client.signaling.send(messages.Offer("me", "you", str(number)))
        async with server(room, port):
            async with asyncio.timeout(5):
                assert [await got.get() for _ in range(3)] == ["0", "1", "2"]
            await client.signaling.flush()


async def test_message_of_a_cancelled_writer_is_sent_later() -> None:
    """The writer waits for a socket with backpressure when the connection is found closed."""

    class Socket:
        def __init__(self, *, blocked: bool) -> None:
            self.sent: list[str] = []
            self.blocked = blocked
            self.busy = asyncio.Event()

        async def send(self, text: str) -> None:
            self.busy.set()
            if self.blocked:
                await asyncio.Event().wait()
            self.sent.append(json.loads(text)["sdp"])

    client = SignalingClient("ws://127.0.0.1:1/ws", messages.Join("me"), lambda event: None)
    for number in range(3):
        client.send(messages.Offer("me", "you", str(number)))
    blocked, other = Socket(blocked=True), Socket(blocked=False)
    for connection in (blocked, other):
        writer = asyncio.ensure_future(client._write(cast(Any, connection)))
        async with asyncio.timeout(5):
            await connection.busy.wait()
        await asyncio.sleep(0)
        writer.cancel()
        await asyncio.wait([writer])
    assert (blocked.sent, other.sent) == ([], ["0", "1", "2"])
    for number in range(signaling.MAX_QUEUED):
        client.send(messages.Offer("me", "you", str(number)))
    client._put_back(1e9, "oldest")
    assert "oldest" not in [text for _, text in client._send_queue]


async def test_message_queued_too_long_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    got: asyncio.Queue[str] = asyncio.Queue()

    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        async for text in socket:
            got.put_nowait(json.loads(text)["sdp"])

    async with server(room) as (_, url), Client(url) as client:
        monkeypatch.setattr(signaling, "MAX_QUEUE_AGE", -1.0)
        client.signaling.send(messages.Offer("me", "you", "stale"))
        monkeypatch.setattr(signaling, "MAX_QUEUE_AGE", 5.0)
        client.signaling.send(messages.Offer("me", "you", "fresh"))
        async with asyncio.timeout(5):
            assert await got.get() == "fresh"


@pytest.mark.parametrize(
    ("close", "code"), [(4001, "replaced"), (4400, "bad-join"), (4401, "unauthorized"), (4409, "id-taken")]
)
async def test_client_rejected_for_good_does_not_reconnect(close: int, code: str) -> None:
    joins = 0

    async def strict(socket: ServerConnection) -> None:
        nonlocal joins
        joins += 1
        await socket.recv()
        await socket.send(EMPTY)
        await socket.close(close, "no")

    async with server(strict) as (_, url), Client(url) as client:
        assert await client.next(Rejected) == Rejected(code, "no")
        async with asyncio.timeout(5):
            await client._task
    assert joins == 1


async def test_rejection_with_error_message_reports_that_message() -> None:
    async def strict(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send('{"type": "error", "code": "id-taken", "message": "me is here already"}')
        await socket.close(4409)

    async with server(strict) as (_, url), Client(url) as client:
        assert await client.next(Rejected) == Rejected("id-taken", "me is here already")


@pytest.mark.parametrize(
    ("close", "code", "joined"),
    [(4400, "room-full", False), (4429, "rate-limited", False), (4429, "rate-limited", True)],
)
async def test_client_rejected_temporarily_reconnects(close: int, code: str, joined: bool) -> None:
    joins = 0

    async def full(socket: ServerConnection) -> None:
        nonlocal joins
        joins += 1
        await socket.recv()
        if joins == 2:
            await socket.send(EMPTY)
            await socket.wait_closed()
            return
        if joined:
            await socket.send(EMPTY)
        await socket.send(json.dumps({"type": "error", "code": code, "message": "not now"}))
        await socket.close(close, "not now")

    async with server(full) as (_, url), Client(url) as client:
        down = await client.next(Disconnected)
        assert down == Disconnected(Diagnosis("not now", None), (code, "not now"))
        await client.next(Joined)
    assert joins == 2


async def test_client_cancelled_closes_with_code_1000() -> None:
    code: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        await socket.wait_closed()
        code.set_result(socket.close_code)

    async with server(room) as (_, url):
        async with Client(url) as client:
            await client.next(Joined)
        async with asyncio.timeout(5):
            assert await code == 1000


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("ws://host:1", "ws://host:1/ws"),
        ("wss://host/", "wss://host/ws"),
        ("ws://host/other?x=1", "ws://host/other?x=1"),
    ],
)
def test_check_url_without_path_appends_ws(given: str, used: str) -> None:
    assert check_url(given) == used


@pytest.mark.parametrize(
    "url", ["", "host:8080", "http://host", "ws://", "ws://host:0", "ws://host:99999", "ws://[x"]
)
def test_check_url_invalid_raises_with_example(url: str) -> None:
    with pytest.raises(ConfigError, match="ws://host:port/ws"):
        check_url(url)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """PEM file with the key and the self-signed certificate of ``localhost``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = tmp_path / "localhost.pem"
    path.write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain) + made.public_bytes(encoding)
    )
    return path


@pytest.mark.parametrize("trusted", [True, False])
async def test_wss_joins_only_with_trusted_certificate(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        await socket.wait_closed()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serve(room, "127.0.0.1", 0, ssl=context) as made:
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


async def test_unanswered_join_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signaling, "OPEN_TIMEOUT", 0.5)

    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with server(silent) as (_, url), Client(url) as client:
        assert await client.next(Disconnected) == Disconnected(JOIN_UNANSWERED)


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


async def test_debug_log_contains_no_secrets(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    turn = {"urls": "turn:turn.example", "username": "me", "credential": "SECRET-TURN"}

    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        for _ in range(2):  # in answer to the join, and once more
            await socket.send(json.dumps({"type": "peer-list", "peers": ["door"], "iceServers": [turn]}))
        await socket.wait_closed()

    quiet = logging.getLogger("tests.server")
    quiet.setLevel(logging.WARNING)
    async with serve(room, "127.0.0.1", 0, logger=quiet) as made:
        url = f"ws://me:SECRET-PASSWORD@127.0.0.1:{made.sockets[0].getsockname()[1]}/ws"
        async with Client(url, token="SECRET-TOKEN", key="SECRET-KEY") as client:
            await client.next(Joined)
            await client.next(MessageReceived)
    assert "peer-list door" in caplog.text
    assert "SECRET" not in caplog.text


async def test_diagnosis_of_failed_url_has_no_credentials(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Client("ws://me:SEC:RET@127.0.0.1:9/ws#fragment") as client:
        down = await client.next(Disconnected)
    assert isinstance(down, Disconnected)
    assert "127.0.0.1:9/ws#fragment" in down.diagnosis.why
    assert "SEC" not in caplog.text + down.diagnosis.why


def test_check_url_error_has_no_credentials() -> None:
    with pytest.raises(ConfigError, match="'http://relay/ws' is not a relay URL"):
        check_url("http://me:sec/r@t@relay/ws")


async def test_proxy_status_selects_the_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[tuple[bool, bool]] = []
    delay = backoff.Backoff.delay

    def spy(self: backoff.Backoff, now: float, *, host_answered: bool, rejected: bool) -> float:
        answers.append((host_answered, rejected))
        return delay(self, now, host_answered=host_answered, rejected=rejected)

    monkeypatch.setattr(backoff.Backoff, "delay", spy)

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(replies.pop(0).encode() + b"Content-Length: 0\r\n\r\n")
        writer.close()

    replies = [
        "HTTP/1.1 502 Bad Gateway\r\n",
        "HTTP/1.1 503 Busy\r\nRetry-After: 9\r\n",
        "HTTP/1.1 404 No\r\n",
        "HTTP/1.1 429 Too Many\r\nRetry-After: 9\r\n",
    ]
    made = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with made, Client(f"ws://127.0.0.1:{made.sockets[0].getsockname()[1]}/ws") as client:
        for _ in range(3):
            down = await client.next(Disconnected)
            assert isinstance(down, Disconnected) and down.rejection is None
        down = await client.next(Disconnected)
        assert isinstance(down, Disconnected)
        assert down.rejection == ("rate-limited", "too many connections from this address")
    assert answers[:4] == [(True, False), (False, False), (False, False), (False, True)]


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


async def test_cacert_replaces_the_trust_of_the_system(certificate: Path, tmp_path: Path) -> None:
    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        await socket.wait_closed()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with serve(room, "127.0.0.1", 0, ssl=context) as made:
        url = f"wss://localhost:{made.sockets[0].getsockname()[1]}"
        async with Client(url, tls=tls_context(str(certificate))) as client:
            assert await client.next(Joined) == Joined(messages.PeerList(()))
        async with Client(url, tls=tls_context(None)) as client:
            down = await client.next(Disconnected)
            assert isinstance(down, Disconnected) and down.diagnosis.hint == "see --cacert"
            assert down.diagnosis.why == "its certificate is not trusted: self-signed certificate"
            assert down.diagnosis.permanent


@pytest.mark.parametrize(("content", "error"), [(None, "No such file"), ("", "no PEM certificate"), ("x", "no PEM")])
def test_cacert_unusable_raises_with_file_name(tmp_path: Path, content: str | None, error: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"--cacert: .*ca\.pem: {error}"):
        tls_context(str(path))


async def test_ws_with_cacert_joins(certificate: Path) -> None:
    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        await socket.wait_closed()

    async with server(room) as (_, url), Client(url, tls=tls_context(str(certificate))) as client:
        await client.next(Joined)
