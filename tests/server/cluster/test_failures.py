"""Relays of a cluster as processes that are killed or suspended, and a connection to Redis that is cut."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress

from websockets.asyncio.client import connect

from tests.redis_server import RedisServer

from ..observability.test_observability import ask, look
from ..wire import DEADLINE, Peer, Process, joined, process, relay, until

LEASE = 2.0


@contextmanager
def processes(redis: RedisServer, count: int) -> Iterator[list[Process]]:
    with ExitStack() as stack:
        options = {"cluster": redis.url, "cluster_lease": LEASE, "grace": 1.0}
        yield [stack.enter_context(process(**options)) for _ in range(count)]


@asynccontextmanager
async def client(relay: Process, peer_id: str, *, peers: list[str], key: str | None = None) -> AsyncIterator[Peer]:
    """A peer at a relay that may be killed."""
    url = f"ws://127.0.0.1:{relay.port}/ws"
    ws = await connect(url, ping_interval=None, close_timeout=0.1)
    try:
        peer = Peer(ws)
        peer.id = peer_id
        await peer.send({"type": "join", "peerId": peer_id, "key": key})
        found = await peer.get()
        assert found["type"] == "peer-list" and sorted(found["peers"]) == peers, found
        yield peer
    finally:
        ws.transport.abort()


async def test_killed_relay_reconnecting_peers_keep_their_seats(
    ledger_redis: RedisServer,
) -> None:
    with processes(ledger_redis, 3) as (one, two, three):
        async with client(two, "B", peers=[]) as b, client(one, "A", peers=["B"], key="k"):
            assert (await b.get())["peerId"] == "A"
            async with client(one, "X", peers=["A", "B"]):
                assert (await b.get())["peerId"] == "X"
                one.process.kill()
                killed = time.monotonic()
                async with client(three, "A", peers=["B", "X"], key="k") as a:
                    assert time.monotonic() - killed < LEASE
                    assert await b.get() == await a.get() == {"type": "peer-left", "peerId": "X"}
                    assert LEASE / 2 < time.monotonic() - killed < LEASE + DEADLINE
                    await b.send_message("offer", to="A", n=1)
                    assert (await a.get())["n"] == 1
                    await a.barrier()
                    await b.barrier()


async def test_hung_relay_reclaims_seats_that_are_still_free(
    ledger_redis: RedisServer,
) -> None:
    with processes(ledger_redis, 2) as (one, two):
        async with client(two, "B", peers=[]) as b, client(one, "A", peers=["B"]) as a:
            assert (await b.get())["peerId"] == "A"
            async with client(one, "X", peers=["A", "B"]) as x:
                assert (await a.get())["peerId"] == (await b.get())["peerId"] == "X"
                one.process.send_signal(signal.SIGSTOP)
                assert {(await b.get())["peerId"], (await b.get())["peerId"]} == {"A", "X"}  # they left
                async with client(two, "X", peers=["B"]) as new:
                    assert await b.get() == {"type": "peer-joined", "peerId": "X"}
                    one.process.send_signal(signal.SIGCONT)
                    assert await x.closed() == 4001
                    assert await b.get() == await new.get() == {"type": "peer-joined", "peerId": "A"}
                    await a.send_message("offer", to="X", n=1)
                    assert (await new.get())["n"] == 1
                    for peer in (a, b, new):
                        await peer.barrier()


async def test_stopping_relay_does_not_wait_for_redis(ledger_redis: RedisServer) -> None:
    with processes(ledger_redis, 1) as (one,):
        ledger_redis.freeze()
        try:
            one.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(one.process.wait, DEADLINE) == 0
        finally:
            ledger_redis.thaw()


class Wire:
    """A TCP proxy to Redis that can be cut and repaired."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._writers: set[asyncio.StreamWriter] = set()
        self._cut = False
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            writer.transport.abort()
            return
        there, here = await asyncio.open_connection("127.0.0.1", self._to)
        self._writers |= {writer, here}
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pump(reader, here))
            tasks.create_task(self._pump(there, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()
        self._writers.discard(writer)

    def cut(self) -> None:
        self._cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def repair(self) -> None:
        self._cut = False


@asynccontextmanager
async def wire(redis: RedisServer) -> AsyncIterator[Wire]:
    found = Wire(redis.port)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found
        found.cut()


async def test_relay_cut_off_for_less_than_the_lease_loses_nothing(ledger_redis: RedisServer) -> None:
    options = {"cluster_lease": 30.0}
    async with wire(ledger_redis) as line:
        url = f"redis://127.0.0.1:{line.port}/0"
        async with relay(cluster=url, **options) as one, relay(cluster=ledger_redis.url, **options) as two:
            async with joined(one, "A") as a, joined(two, "B") as b:
                assert (await a.get())["peerId"] == "B"
                line.cut()
                for n in range(100):
                    await a.send_message("offer", to="B", n=n)
                    await b.send_message("offer", to="A", n=n)
                await until(lambda: one.counters.cluster is not None and one.counters.cluster.reconnects > 1)
                line.repair()
                assert [(await b.get())["n"] for _ in range(100)] == list(range(100))
                assert [(await a.get())["n"] for _ in range(100)] == list(range(100))


async def test_broadcasts_time_out_like_other_messages(ledger_redis: RedisServer) -> None:
    options = {"cluster_lease": 4.5, "takeover_ping": 0.1}
    async with wire(ledger_redis) as line:
        url = f"redis://127.0.0.1:{line.port}/0"
        async with relay(cluster=url, **options) as one, relay(cluster=ledger_redis.url, **options) as two:
            async with joined(one, "A") as a, joined(two, "B") as b:
                assert (await a.get())["peerId"] == "B"
                ledger = one.counters.cluster
                assert ledger is not None
                line.cut()
                await until(lambda: ledger.reconnects > 0 and one.sessions.rooms.deadline is None)  # no other timer
                for n in range(10):
                    await a.send_message("x", n=n)
                tried = ledger.reconnects
                await until(lambda: ledger.reconnects > tried + 1 and not ledger.waiting)
                line.repair()
                await a.send_message("offer", to="B", n=10)
                assert (await b.get())["n"] == 10


async def test_relay_cut_off_longer_is_removed_and_registers_again(ledger_redis: RedisServer) -> None:
    options = {"cluster_lease": LEASE, "metrics": ("127.0.0.1", 0)}
    async with wire(ledger_redis) as line:
        url = f"redis://127.0.0.1:{line.port}/0"
        async with relay(cluster=url, **options) as one, relay(cluster=ledger_redis.url, **options) as two:
            async with joined(one, "A") as a, joined(one, "L") as local, joined(two, "B") as b:
                for _ in range(2):
                    await a.get()
                await local.get()
                assert (await ask(one, "/readyz"))[0] == 200
                assert (await look(two))["relay_cluster_nodes", ""] == 2
                line.cut()
                await until(lambda: one.why_not_ready() is not None)
                status, _, body = await ask(one, "/readyz")
                assert (status, json.loads(body)["status"]) == (503, "Redis is out of reach")
                assert {(await b.get())["peerId"], (await b.get())["peerId"]} == {"A", "L"}
                await a.send_message("offer", to="L", n=1)
                assert (await local.get())["n"] == 1
                line.repair()
                assert {(await b.get())["peerId"], (await b.get())["peerId"]} == {"A", "L"}
                for peer in (a, local, b):
                    await peer.barrier()  # no peer here was notified
                counts = await look(one)
                assert counts["relay_cluster_resumptions_total", ""] == 1
                assert counts["relay_cluster_reconnects_total", ""] > 0
                assert counts["relay_cluster_waiting", ""] == 0
                assert counts["relay_cluster_round_trip_seconds_count", ""] > 0
