"""Clients over a limit of connections, rooms or time: their errors and close codes, and nothing for the others."""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from contextlib import suppress
from pathlib import Path

import pytest

from server.admission import admission
from server.transport.connection import Phase

from .addresses import PROXIED, come, join, refused
from .wire import DEADLINE, OPENING, ROOT, Peer, Process, Raw, joined, opened, process, relay, text, until

# --- connections ----------------------------------------------------------------------------------------------


async def test_connections_per_address_are_limited() -> None:
    async with relay(address_sockets=2, **PROXIED) as server:
        one, two = [await join(server, "2001:db8::1", name) for name in "ab"]
        late, head = await come(server, "2001:db8::ffff:2")
        assert head.startswith(b"HTTP/1.1 429 ") and b"\r\nRetry-After: 10\r\n" in head
        assert b"too many connections" in await late.rest()
        other = await join(server, "2001:db8:0:1::1", "c")
        await one.end()
        async with asyncio.timeout(DEADLINE):
            while True:
                await late.end()
                late, head = await come(server, "2001:db8::3")
                if head.startswith(b"HTTP/1.1 101 "):
                    break
        for raw in (two, other, late):
            await raw.end()


async def test_address_limit_without_a_proxy_applies_at_accept() -> None:
    async with relay(address_sockets=1, exempt=()) as server, joined(server, "A"):
        late = await Raw.connect(server.port)
        assert (await late.head()).startswith(b"HTTP/1.1 429 ")
        await late.end()


async def test_own_machine_has_no_limits_unless_configured() -> None:
    async with relay(address_sockets=1, address_join_rate=1, address_message_rate=0.1) as server:
        async with joined(server, "A"), joined(server, "B"), joined(server, "C") as c:
            for _ in range(5):
                await c.barrier()


async def test_untrusted_proxy_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    async with relay() as server:
        for _ in range(2):
            raw, head = await come(server, "192.0.2.1")
            assert head.startswith(b"HTTP/1.1 101 ")
            await raw.end()
    assert caplog.text.count("see --trust-proxy") == 1


async def test_connect_rate_per_address_is_limited() -> None:
    async with relay(address_connect_rate=3, **PROXIED) as server:
        for _ in range(3):
            raw, head = await come(server, "192.0.2.1")
            assert head.startswith(b"HTTP/1.1 101 ")
            await raw.end()
        raw, head = await come(server, "192.0.2.1")
        assert head.startswith(b"HTTP/1.1 429 ")
        await raw.end()


async def test_join_rate_per_address_is_limited() -> None:
    async with relay(address_join_rate=2, **PROXIED) as server:
        peers = [await join(server, "192.0.2.1", name) for name in "ab"]
        assert await refused(server, "192.0.2.1") == ("rate-limited", 4429)
        peers.append(await join(server, "192.0.2.2", "c"))
        for raw in peers:
            await raw.end()


async def test_wrong_token_counts_as_ten_joins() -> None:
    async with relay(address_join_rate=20, token="right", **PROXIED) as server:
        found = [await refused(server, "192.0.2.1") for _ in range(4)]
        assert found == [("unauthorized", 4401)] * 2 + [("rate-limited", 4429)] * 2


async def test_connections_over_the_maximum_get_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "MAX_REFUSALS", 3)
    async with relay(max_connections=2, close_timeout=DEADLINE) as server:
        async with joined(server, "A") as a, joined(server, "B"):
            assert (await a.get())["type"] == "peer-joined"
            late = [await Raw.connect(server.port) for _ in range(3)]
            for raw in late:
                head = await raw.head()
                assert head.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 10\r\n" in head
            silent = await Raw.connect(server.port)
            assert await silent.rest() == b"", "only closed: three others get a response already"
            await a.barrier()
            for raw in (*late, silent):
                await raw.end()
        await until(lambda: not server.sessions.clients)
        async with joined(server, "C"):
            pass


async def test_relay_out_of_descriptors_rejects_without_spinning() -> None:
    with process() as server:
        a = await Raw.join(server.port, "a")
        held = len(os.listdir(f"/proc/{server.process.pid}/fd"))
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (held + 10, held + 10))
        crowd = [await Raw.connect(server.port) for _ in range(200)]
        ends = [asyncio.ensure_future(end_of(raw)) for raw in crowd]
        await until(lambda: sum(end.done() for end in ends) >= 185)
        before = cpu(server)
        started = time.perf_counter()
        for _ in range(20):
            a.writer.write(text({"type": "offer", "from": "a", "to": "nobody"}))
            assert (await a.get())["code"] == "peer-not-found"
            await asyncio.sleep(0.02)
        assert cpu(server) - before < 0.5 * (time.perf_counter() - started)
        for raw in crowd:
            await raw.end()
        await asyncio.wait(ends)
        async with asyncio.timeout(DEADLINE):
            while True:
                with suppress(OSError, asyncio.IncompleteReadError):
                    b = await Raw.join(server.port, "b")
                    break
        assert (await a.get())["peerId"] == "b"
        await a.end()
        await b.end()


async def end_of(raw: Raw) -> None:
    """Wait until it is closed in any way."""
    with suppress(ConnectionError):
        await raw.reader.read()


def cpu(server: Process) -> float:
    """CPU time of the process, in seconds."""
    return int(Path(f"/proc/{server.process.pid}/schedstat").read_text().split()[0]) / 1e9


# --- rooms ----------------------------------------------------------------------------------------------------


async def turned_out(peer: Peer, **join: str) -> tuple[str, str, int]:
    """Error code, message and close code of a rejected join."""
    await peer.send({"type": "join"} | join)
    error = await peer.get()
    return error["code"], error["message"], await peer.closed()


async def test_peers_per_room_are_limited() -> None:
    async with relay(max_room_peers=2) as server, joined(server, "A"), joined(server, "B", key="k"):
        async with opened(server) as late:
            code, message, close = await turned_out(late, peerId="C")
            assert (code, close) == ("room-full", 4400) and "limit is 2" in message
        async with joined(server, "C", room="attic"), joined(server, "B", key="k"):
            pass  # another room, and a peer that has a seat
        assert server.counters.rejected["room-full"] == 1


async def test_rooms_are_limited() -> None:
    async with relay(max_rooms=2) as server, joined(server, "A"), joined(server, "B", room="attic"):
        async with opened(server) as late:
            code, message, close = await turned_out(late, peerId="C", room="cellar")
            assert (code, close) == ("room-full", 4400) and "limit is 2" in message
        async with joined(server, "C", room="attic"):
            pass


async def test_seats_in_grace_count_towards_the_limit() -> None:
    async with relay(max_connections=3, grace=DEADLINE) as server:
        for name in "abc":
            raw = await Raw.join(server.port, name, key="k")
            raw.reset()
            await until(lambda: not server.sessions.clients)
        async with opened(server) as late:
            code, message, close = await turned_out(late, peerId="d")
            assert (code, close) == ("room-full", 4400) and "no more peers" in message
        async with joined(server, "a", key="k"):
            pass


# --- time -----------------------------------------------------------------------------------------------------


async def test_slow_request_head_times_out() -> None:
    async with relay(join_timeout=0.5) as server, joined(server, "A") as a:
        started = time.perf_counter()
        raw = await Raw.connect(server.port)
        answer = asyncio.ensure_future(raw.head())
        while not answer.done():
            raw.writer.write(b"G")
            await asyncio.wait([answer], timeout=0.02)
            assert time.perf_counter() - started < DEADLINE
        assert (await answer).startswith(b"HTTP/1.1 408 ")
        await a.barrier()
        await raw.end()


async def test_opening_and_join_share_one_deadline() -> None:
    async with relay(join_timeout=1.0) as server:
        raw = await Raw.connect(server.port)
        half = len(OPENING) // 2
        raw.writer.write(OPENING[:half])
        await asyncio.sleep(0.7)  # more than half of it
        started = time.perf_counter()
        raw.writer.write(OPENING[half:])
        await raw.head()
        assert (await raw.get())["code"] == "bad-join"
        assert await raw.closed() == 4400
        assert time.perf_counter() - started < 0.9, "not another second"
        await raw.end()


async def test_log_lines_of_one_kind_come_once_per_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="server")
    async with relay(token="right") as server:
        for n in range(20):
            async with opened(server) as guess:
                await guess.send({"type": "join", "peerId": f"p{n}", "token": "wrong"})
                assert await guess.closed() == 4401
    assert 1 <= caplog.text.count("the token is wrong") <= 3


async def test_connection_ending_at_once_leaves_nothing_behind() -> None:
    async with relay(max_connections=5) as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)):
                pass
        await until(lambda: not server.sessions.clients and not server.admission._connections)


async def test_client_aborted_while_admitted_is_not_counted_forever() -> None:
    async with relay() as server:
        holder = await Raw.join(server.port, "a")
        (held,) = server.sessions.clients
        claimant = await Raw.open(server.port)
        claimant.writer.write(text({"type": "join", "peerId": "a"}))
        await until(lambda: any(client.phase is Phase.CLAIMING for client in server.sessions.clients))
        (claiming,) = server.sessions.clients - {held}
        claiming.pause_writing()  # as if its socket were blocked, so that its messages are queued and counted
        claiming.abort()
        server.sessions.client_left(held, clean=True)
        assert server.sessions.rooms.name(claiming) == "a" and server.sessions.memory_budget.used
        await until(lambda: claiming not in server.sessions.clients)
        await asyncio.sleep(0)
        assert not server.sessions.memory_budget.used
        holder.reset()
        claimant.reset()


def test_limit_names_are_in_the_docs() -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    for name in (*admission._REJECTIONS, *admission._RATE_EXCEEDED, "descriptors", "buffers"):
        assert f"`{name}`" in page


async def test_host_with_several_addresses_has_one_port() -> None:
    async with relay(host="localhost") as server:
        for host in {str(where[4][0]) for where in socket.getaddrinfo("localhost", 0)}:
            _, writer = await asyncio.open_connection(host, server.port)
            writer.close()
            await writer.wait_closed()


async def test_exception_in_the_relay_leaves_no_connection_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with relay() as server:
        raw = await Raw.join(server.port, "a")
        monkeypatch.setattr(server.sessions.rooms, "drop", lambda conn, now: 1 / 0)
        raw.reset()
        await until(lambda: not server.sessions.clients and not server.admission._connections)
    assert "ZeroDivisionError" in caplog.text
