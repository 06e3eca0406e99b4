"""Relays driven to their limits use no more memory than docs/limits.md promises."""

from __future__ import annotations

import asyncio
import signal
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from peer.signaling.messages import MAX_INSTANCE
from server.config import RelayConfig
from server.memory_budget import MESSAGE_OVERHEAD
from server.memory_estimate import max_memory
from server.transport.listener import SOCKET_BUFFER
from tests.redis_server import RedisServer

from ..waiting import until
from .keys import certificate
from .wire import DEADLINE, OPENING, Process, Raw, frame, process, text

MEGABYTE = 1 << 20
NOTHING = RelayConfig(max_buffers=0)
CROWD = 200
LIMIT_NAMES: dict[str, Any] = {
    "max_connections": 350,
    "max_buffers": 32 * MEGABYTE,
    "message_rate": 0,
    "byte_rate": 0,
    "copy_rate": 0,
}


async def send(raw: Raw, data: bytes) -> None:
    """Send ``data``, unless the relay has closed the connection."""
    with suppress(ConnectionError):
        raw.writer.write(data)
        await asyncio.wait_for(raw.writer.drain(), DEADLINE)


async def check(server: Process, before: int, **options: Any) -> None:
    """Check that much of the allowed data is buffered, and that the memory for it is within the formula."""
    config = RelayConfig(**LIMIT_NAMES | options)
    await until(lambda: server.peak() - before > config.max_buffers // 2, timeout=30)
    allowed = max_memory(config, config.max_connections)
    assert server.peak() <= allowed
    assert server.peak() - before <= allowed - max_memory(NOTHING, 0)


@pytest.mark.parametrize(("size", "readers", "buffers"), [(0, 8, 8), (100_000, 60, 32)])
async def test_memory_with_stalled_readers_is_bounded(size: int, readers: int, buffers: int) -> None:
    options = {"max_buffers": buffers * MEGABYTE}
    with process(**LIMIT_NAMES | options) as server:
        before = server.peak()
        stalled = [await Raw.join(server.port, f"{n}", receive_buffer=4096) for n in range(readers)]
        for raw in stalled:
            raw.stall()
        sender = await Raw.join(server.port, "a")
        each = buffers * MEGABYTE // readers + 2 * SOCKET_BUFFER  # bytes, more than the budget
        frames = [text({"type": "x", "from": "a", "to": f"{n}", "x": "x" * size}) for n in range(readers)]
        count = 1 + each // (len(frames[0]) + (0 if size else MESSAGE_OVERHEAD))
        for done in range(0, count, 100):
            for one in frames:
                await send(sender, one * min(100, count - done))
        await send(sender, text({"type": "offer", "from": "a", "to": "nobody"}))
        while (await sender.get()).get("to") != "nobody":
            pass  # skip notices and errors about closed peers
        await check(server, before, **options)
        for raw in (*stalled, sender):
            raw.reset()


@pytest.mark.parametrize("secure", [False, True])
async def test_memory_with_endless_messages_and_requests_is_bounded(secure: bool, tmp_path: Path) -> None:
    pem = certificate(tmp_path / "a.pem") if secure else None
    trust = ssl.create_default_context(cafile=pem) if secure else None
    with process(**LIMIT_NAMES, tls_cert=pem) as server:
        before = server.peak()

        async def connect() -> Raw:
            return Raw(*await asyncio.open_connection("localhost", server.port, ssl=trust))

        crowd = [await connect() for _ in range(CROWD)]
        for n, raw in enumerate(crowd):
            if n % 3 == 0:
                await send(raw, b"GET /" + b"x" * 16_000)
                continue
            await send(raw, OPENING)
            await raw.head()
            join = {"type": "join", "peerId": f"{n:064}", "room": f"{n:064}", "key": f"{n:0256}"}
            await send(raw, text(join | {"instance": "\U0001f600" * MAX_INSTANCE}))
            await raw.get()
            kind = frame(1, b"x" * 250_000, fin=False) if n % 3 == 1 else huge()
            await send(raw, kind)
        await check(server, before, tls_cert=pem)
        for raw in crowd:
            raw.writer.transport.abort()


def huge() -> bytes:
    """A frame without its end."""
    return frame(1, b"x" * 250_000)[:-1]


async def test_memory_with_everything_at_once_is_bounded() -> None:
    with process(**LIMIT_NAMES, grace=60) as server:
        before = server.peak()
        sender = await Raw.join(server.port, "sender")
        away = [await Raw.join(server.port, f"away-{n}", key="k") for n in range(100)]
        for raw in away:
            raw.reset()
        stalled = [await Raw.join(server.port, f"stalled-{n}", receive_buffer=4096) for n in range(100)]
        for raw in stalled:
            raw.stall()
        drips = [await Raw.join(server.port, f"drip-{n}") for n in range(100)]
        for raw in drips:
            await send(raw, huge())
        for _ in range(300):
            await send(sender, text({"type": "x", "from": "sender", "x": "x" * 30_000}))
        await check(server, before)
        for raw in (sender, *stalled, *drips):
            raw.reset()


LEASE = 60.0  # so that no hung relay is removed


async def test_memory_with_a_hung_redis_is_bounded(ledger_redis: RedisServer) -> None:
    options: dict[str, Any] = {"cluster": ledger_redis.url, "cluster_lease": LEASE} | LIMIT_NAMES
    options |= {"max_buffers": MEGABYTE, "max_connections": 10}
    with process(**options) as one, process(**options) as two:
        sender, other = await Raw.join(one.port, "a"), await Raw.join(two.port, "b")
        assert (await sender.get())["peerId"] == "b"
        before = one.peak()
        ledger_redis.freeze()
        try:
            reading = asyncio.create_task(sender.get())
            while not reading.done():  # until it gets an error, because the queue is full
                await send(sender, text({"type": "x", "from": "a", "to": "b"}) * 1000)
            assert (await reading)["code"] == "peer-not-found"
        finally:
            ledger_redis.thaw()
        assert one.peak() - before > 4 * MEGABYTE
        config = RelayConfig(**options)
        assert one.peak() <= max_memory(config, 10)
        for raw in (sender, other):
            raw.reset()


async def test_memory_with_a_late_inbox_is_bounded(ledger_redis: RedisServer) -> None:
    readers, each, size = 24, 9, 250_000
    options: dict[str, Any] = {"cluster": ledger_redis.url, "cluster_lease": LEASE} | LIMIT_NAMES
    options |= {"max_buffers": 16 * MEGABYTE, "max_connections": 30}
    with process(**options) as one, process(**options) as two:
        crowd = [await Raw.join(two.port, f"{n}") for n in range(readers)]
        for raw in crowd:
            raw.stall()
        sender = await Raw.join(one.port, "a")
        before = two.peak()
        two.process.send_signal(signal.SIGSTOP)
        with ledger_redis.client() as client:
            for done in range(1, each + 1):
                for n in range(readers):
                    await send(sender, text({"type": "x", "from": "a", "to": f"{n}", "x": "x" * size}))
                await until(lambda least=done * readers: inbox(client) >= least)
            two.process.send_signal(signal.SIGCONT)
            await until(lambda: inbox(client) < readers, timeout=30)
        assert two.peak() - before > 16 * MEGABYTE
        assert two.peak() <= max_memory(RelayConfig(**options), 30)
        for raw in (sender, *crowd):
            raw.reset()


def inbox(client: redis.Redis) -> int:
    """Unread entries of the longest inbox."""
    return max((int(client.xlen(key)) for key in client.scan_iter("peer:*:in:*")), default=0)
