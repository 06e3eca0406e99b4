"""Clients over a limit: their errors and close codes, and that other clients notice nothing.

Addresses are those that a trusted proxy reports, so that a test can use any number of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from server.admission import admission
from server.relay import Relay
from server.transport.connection import Phase

from .wire import DEADLINE, OPENING, ROOT, Peer, Process, Raw, frame, joined, opened, process, relay, text, until

PROXIED: dict[str, Any] = {"trust_proxies": ("127.0.0.1",), "exempt": (), "open": True}


async def come(server: Relay, address: str) -> tuple[Raw, bytes]:
    """Open a connection from ``address``. Returns it and the response to its opening."""
    raw = await Raw.connect(server.port)
    raw.writer.write(OPENING.replace(b"Host: localhost", b"Host: localhost\r\nX-Forwarded-For: " + address.encode()))
    return raw, await raw.head()


async def join(server: Relay, address: str, peer_id: str) -> Raw:
    """Join the room from ``address``."""
    raw, head = await come(server, address)
    assert head.startswith(b"HTTP/1.1 101 "), head
    raw.writer.write(text({"type": "join", "peerId": peer_id}))
    assert (await raw.get())["type"] == "peer-list"
    return raw


async def refused(server: Relay, address: str, peer_id: str = "late") -> tuple[str, int]:
    """Join from ``address``, and return the error code and the close code."""
    raw, head = await come(server, address)
    assert head.startswith(b"HTTP/1.1 101 "), head
    raw.writer.write(text({"type": "join", "peerId": peer_id}))
    answer = (await raw.get())["code"], await raw.closed()
    await raw.end()
    return answer


# --- messages and bytes ---------------------------------------------------------------------------------------


async def test_excess_messages_are_dropped_and_closed_with_4429() -> None:
    async with relay(message_rate=2) as server, joined(server, "A") as a:
        raw = await Raw.join(server.port, "flooder")
        assert (await a.get())["type"] == "peer-joined"
        for n in range(60):  # a burst is 20 messages, and the join was one of them
            raw.writer.write(text({"type": "offer", "from": "flooder", "to": "A", "n": n}))
        error = await raw.get()
        assert error["code"] == "rate-limited" and "at most 2 per second" in error["message"]
        assert [(await a.get())["n"] for _ in range(19)] == list(range(19))
        assert await a.get() == {"type": "peer-left", "peerId": "flooder"}
        assert await raw.closed() == 4429
        assert server.counters.limited["messages"] == 2
        await a.barrier()
        await raw.end()


async def test_client_that_slows_down_is_served_again() -> None:
    async with relay(message_rate=50) as server, joined(server, "A") as a, joined(server, "B") as b:
        assert (await a.get())["type"] == "peer-joined"
        for n in range(505):
            await b.send_message("offer", to="A", n=n)
        assert (await b.get())["code"] == "rate-limited"
        for _ in range(4):
            await asyncio.sleep(0.1)  # five messages' worth each
            await b.send_message("offer", to="A", n="again")
        while (await a.get())["n"] != "again":
            pass
        assert server.counters.closed[4429] == 0


async def test_excess_bytes_of_any_kind_are_closed_with_4429() -> None:
    async with relay(byte_rate=1000, max_frame=1024) as server, joined(server, "A") as a:
        for data in (
            frame(9, b"x" * 125) * 300,
            text({"type": "offer", "from": "flooder", "to": "A", "sdp": "x" * 30_000}),
            frame(1, b"x" * 500, fin=False) + frame(0, b"x" * 500, fin=False) * 60,
        ):
            raw = await Raw.join(server.port, "flooder")
            assert (await a.get())["type"] == "peer-joined"
            raw.writer.write(data + text({"type": "offer", "from": "flooder", "to": "A"}))
            assert await raw.closed() == 4429
            assert await a.get() == {"type": "peer-left", "peerId": "flooder"}
            await raw.end()
        await a.barrier()


async def test_excess_fragmented_message_is_dropped() -> None:
    async with relay(message_rate=1) as server, joined(server, "A") as a:
        raw = await Raw.join(server.port, "B")
        assert (await a.get())["type"] == "peer-joined"
        half = text({"type": "offer", "from": "B", "to": "A", "n": 1})
        raw.writer.write(half * 9)
        raw.writer.write(frame(1, b'{"type": "offer", "from": "B", ', fin=False) + frame(0, b'"to": "A", "n": 2}'))
        assert (await raw.get())["code"] == "rate-limited"
        raw.writer.write(frame(8, b"\x03\xe8"))
        assert [await a.get() for _ in range(10)][-1] == {"type": "peer-left", "peerId": "B"}
        assert await raw.closed() == 1000, "a close is read, however fast it follows"
        await raw.end()


async def test_excess_frames_before_the_join_close_with_4429() -> None:
    async with relay(message_rate=1) as server:
        raw = await Raw.open(server.port)
        raw.writer.write(frame(9) * 11)
        assert await raw.closed() == 4429
        await raw.end()


async def test_client_flooding_after_the_close_is_dropped() -> None:
    async with relay(message_rate=1) as server:
        raw = await Raw.join(server.port, "flooder")
        raw.writer.write(text({"type": "x", "from": "flooder"}) * 30)
        assert await raw.closed() == 4429
        assert await raw.rest() == b"", "it is half-closed, and not read any more"
        await raw.end()


async def test_address_rates_are_separate() -> None:
    async with relay(message_rate=4, address_message_rate=6, **PROXIED) as server:
        peers = [await join(server, "192.0.2.1", name) for name in "ab"]
        elsewhere = await join(server, "192.0.2.2", "c")
        for raw, name in zip(peers, "ab", strict=True):
            raw.writer.write(text({"type": "offer", "from": name, "to": "nobody"}) * 35)
        got = await peers[1].get()
        while got.get("code") != "rate-limited":
            got = await peers[1].get()
        assert "from your address" in got["message"]
        elsewhere.writer.write(text({"type": "offer", "from": "c", "to": "nobody"}))
        assert (await elsewhere.get())["code"] == "peer-not-found"
        assert server.counters.limited["address-messages"] == 1 and server.counters.limited["messages"] == 0
        for raw in (*peers, elsewhere):
            await raw.end()


async def test_excess_broadcasts_are_dropped_but_not_messages_to_one() -> None:
    async with relay(copy_rate=0.2) as server, joined(server, "A") as a, joined(server, "B") as b:
        assert (await a.get())["type"] == "peer-joined"
        for _ in range(3):
            await b.send_message("wave")
        assert (await b.get())["code"] == "rate-limited"
        await b.send_message("offer", to="A")
        assert [(await a.get())["type"] for _ in range(3)] == ["wave", "wave", "offer"]


async def test_thirty_browsers_of_one_address_exceed_no_limit() -> None:
    candidates = 12  # candidates per side and call; a laptop with VPN and Docker has about that many
    async with relay(**PROXIED) as server:
        names = [f"peer-{n:02}" for n in range(30)]
        peers = {name: await join(server, "192.0.2.1", name) for name in names}
        got = dict.fromkeys(names, 0)

        async def read(name: str, expected: int) -> None:
            while got[name] < expected:
                message = await peers[name].get()
                assert message["type"] in ("peer-joined", "offer", "answer", "candidate"), message
                got[name] += message["type"] != "peer-joined"

        async with asyncio.TaskGroup() as tasks:
            for name, raw in peers.items():
                tasks.create_task(read(name, 29 * (1 + candidates)))
                for other in names:
                    if other == name:
                        continue
                    kind = "offer" if name < other else "answer"
                    raw.writer.write(text({"type": kind, "from": name, "to": other, "sdp": "x" * 6000}))
                    raw.writer.write(text({"type": "candidate", "from": name, "to": other}) * candidates)
        assert not server.counters.limited
        for raw in peers.values():
            await raw.end()


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


# --- memory ---------------------------------------------------------------------------------------------------


async def test_largest_holders_are_closed_when_memory_runs_out() -> None:
    async with relay(max_buffers=2 << 20, byte_rate=0, close_timeout=2) as server, joined(server, "A") as a:
        stalled = [await Raw.join(server.port, f"stalled-{n}", receive_buffer=4096) for n in range(8)]
        for raw in stalled:
            assert (await a.get())["type"] == "peer-joined"
            raw.stall()
        bystander = await Raw.join(server.port, "bystander")
        most = 0
        left: list[str] = []
        while len(left) < 4:  # the kernel's buffers take some megabytes before the relay's fill
            for n in range(8):
                await a.send_message("offer", to=f"stalled-{n}", sdp="x" * (60_000 if n else 500))
            while (body := await a_message(a)) is not None:
                if body["type"] == "peer-left":
                    left.append(body["peerId"])
            most = max(most, server.sessions.memory_budget.used)
        assert most <= 2 << 20
        assert "stalled-0" not in left, "one that holds little stays"
        bystander.writer.write(text({"type": "offer", "from": "bystander", "to": "A"}))
        while (await a.get())["type"] != "offer":
            pass
        first = stalled[int(left[0].removeprefix("stalled-"))]
        first.resume()
        assert await first.closed() == 4408
        for raw in (*stalled, bystander):
            raw.reset()
        await until(lambda: len(server.sessions.clients) == 1)
        assert server.sessions.memory_budget.used == 0


async def a_message(peer: Peer) -> dict[str, Any] | None:
    """Return the messages received so far."""
    await peer.send_message("offer", to="nobody")
    body = await peer.get()
    return None if body.get("to") == "nobody" else body


async def test_endless_frames_count_and_are_closed() -> None:
    async with relay(max_buffers=1 << 20) as server, joined(server, "A") as a:
        drips = [await Raw.join(server.port, f"drip-{n}") for n in range(8)]
        for raw in drips:
            assert (await a.get())["type"] == "peer-joined"
            raw.writer.write(b"\x81\xff" + (250_000).to_bytes(8) + bytes(4 + 200_000))
        for _ in range(8 - 3):  # three quarters of a megabyte have room for three of them
            assert (await a.get())["type"] == "peer-left"
        assert 0 < server.sessions.memory_budget.used <= 1 << 20
        await a.barrier()
        for raw in drips:
            raw.reset()
        await until(lambda: len(server.sessions.clients) == 1)
        assert server.sessions.memory_budget.used == 0


async def test_partial_requests_and_messages_count_until_they_end() -> None:
    async with relay() as server:
        head = await Raw.connect(server.port)
        head.writer.write(b"GET /" + b"x" * 5000)
        await until(lambda: server.sessions.memory_budget.used == 5005)
        half = await Raw.join(server.port, "half")
        half.writer.write(frame(1, b"x" * 3000, fin=False))
        await until(lambda: server.sessions.memory_budget.used == 8005)
        half.writer.write(frame(0, b"x"))
        assert (await half.get())["code"] == "bad-message"
        await until(lambda: server.sessions.memory_budget.used == 5005)
        await head.end()
        await until(lambda: server.sessions.memory_budget.used == 0)
        await half.end()


async def test_queues_of_all_seats_in_grace_are_bounded() -> None:
    async with relay(max_buffers=1 << 20, grace=DEADLINE, max_seat_queue=200_000) as server, joined(server, "A") as a:
        for name in ("x", "y"):
            raw = await Raw.join(server.port, name, key="k")
            assert (await a.get())["type"] == "peer-joined"
            raw.reset()
            await until(lambda: len(server.sessions.clients) == 1)
            await a.send_message("offer", to=name, sdp="x" * 150_000)
        error = await a.get()
        assert (error["code"], error["to"]) == ("peer-not-found", "y")
        assert 150_000 < server.sessions.rooms.queued < 1 << 18
        async with joined(server, "x", key="k") as x:
            assert (await x.get())["type"] == "offer"
            assert server.sessions.rooms.queued == 0


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
