"""WebSocket client of the relay, against servers that conform, misbehave, stop and restart."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any, cast

import pytest
from websockets.asyncio.server import ServerConnection, serve

from peer.signaling import backoff, messages
from peer.signaling import client as signaling
from peer.signaling.client import (
    Disconnected,
    Joined,
    MessageReceived,
    Rejected,
    SignalingClient,
)
from peer.signaling.diagnosis import JOIN_UNANSWERED, Diagnosis

from .wire import EMPTY, Client, empty_room, server

pytestmark = pytest.mark.usefixtures("short_delays")


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


async def test_address_that_does_not_answer_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as IPv6 on a machine whose router drops it."""
    getaddrinfo = socket.getaddrinfo

    async def room(socket: ServerConnection) -> None:
        await socket.send(EMPTY)
        await socket.wait_closed()

    async with server(room) as (made, _), silent_port(made.sockets[0].getsockname()[1]) as silent:

        def both(host: str, port: int, *rest: Any, **named: Any) -> list[Any]:
            addresses = (silent, "127.0.0.1") if host == "relay.test" else (host,)
            return [found for address in addresses for found in getaddrinfo(address, port, *rest, **named)]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        monkeypatch.setenv("no_proxy", "relay.test")
        monkeypatch.setattr(signaling, "ATTEMPT_DELAY", 0.01)
        async with Client(f"ws://relay.test:{made.sockets[0].getsockname()[1]}/ws") as client:
            await client.next(Joined)


@asynccontextmanager
async def silent_port(port: int) -> AsyncIterator[str]:
    """An address where connections to ``port`` are never established: nobody accepts, and the backlog is full."""
    address = "127.0.0.2"
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((address, port))
        listening.listen(0)
        for _ in range(3):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((address, port))
        yield address


async def test_client_connected_joins_and_reports_peers() -> None:
    first: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def room(socket: ServerConnection) -> None:
        first.set_result(str(await socket.recv()))
        await socket.send(json.dumps({"type": "peer-list", "peers": ["a", "b"]}))
        await socket.wait_closed()

    async with server(room) as (_, url), Client(url, room="attic", key="secret") as client:
        assert await client.next(Joined) == Joined(messages.PeerList(("a", "b")))
        assert json.loads(await first) == {"type": "join", "peerId": "me", "room": "attic", "key": "secret"}


async def test_outage_after_a_join_is_reported_by_the_event_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "peer")

    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)

    async with server(room) as (_, url), Client(url) as client:
        for kind in (Joined, Disconnected, Joined, Disconnected):
            await client.next(kind)
    assert caplog.messages == []


async def test_failure_before_the_first_join_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "peer")
    async with Client("ws://127.0.0.1:9/ws") as client:
        for _ in range(3):
            await client.next(Disconnected)
    assert caplog.messages == ["= no connection to the relay yet (connection refused); trying until there is one"]


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
    async with server(empty_room) as (gone, url):
        port = int(url.split(":")[2].split("/")[0])
    del gone
    async with Client(url) as client:
        for _ in range(3):
            await client.next(Disconnected)
        async with server(empty_room, port):
            await client.next(Joined)
        await client.next(Disconnected)
        async with server(empty_room, port):
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


async def test_queued_hang_up_that_names_its_call_does_not_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    got: asyncio.Queue[str | None] = asyncio.Queue()

    async def room(socket: ServerConnection) -> None:
        await socket.recv()
        await socket.send(EMPTY)
        async for text in socket:
            got.put_nowait(json.loads(text).get("call"))

    async with server(room) as (_, url), Client(url) as client:
        monkeypatch.setattr(signaling, "MAX_QUEUE_AGE", -1.0)
        client.signaling.send(messages.HangUp("me", "you"))
        client.signaling.send(messages.Offer("me", "you", "stale", "c2", 1))
        client.signaling.send(messages.HangUp("me", "you", call="c1"))
        async with asyncio.timeout(5):
            assert await got.get() == "c1"


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


async def test_unanswered_join_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signaling, "OPEN_TIMEOUT", 0.5)

    async def silent(socket: ServerConnection) -> None:
        await socket.wait_closed()

    async with server(silent) as (_, url), Client(url) as client:
        assert await client.next(Disconnected) == Disconnected(JOIN_UNANSWERED)


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
