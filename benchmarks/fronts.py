"""The cost of TLS in the relay, nginx and Caddy: ``python -m benchmarks.fronts`` (requires Debian's nginx and Caddy).

The relay alone, with its own TLS, and behind nginx and Caddy configured as in ``examples/deploy``. Measured are the
resident memory per joined, idle peer and the CPU time per routed 3 kB offer, for the relay's process and the proxy's.
Everything runs on this machine; the load uses raw sockets, with one message per pair in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import ssl
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

from tests.deploy import front, test_caddy, test_nginx
from tests.deploy.guests import HOST
from tests.server.keys import certificate
from tests.server.wire import OPENING, Process, Raw, process, text

WAYS = ("alone", "its own TLS", "nginx", "Caddy")
TOKEN = "secret"
PAIRS = 16
SDP = "a=rtpmap:111 opus/48000/2\r\n" * 105


def resident(pids: list[int]) -> int:
    """Return the resident memory in bytes."""
    found = (Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1] for pid in pids)
    return sum(int(text.split()[0]) * 1024 for text in found)


def spent(pids: list[int]) -> float:
    """Return the CPU time of all threads in seconds."""
    ticks = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13] for pid in pids)
    return sum(int(user) + int(system) for user, system in ticks) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """Return ``pid`` and its children."""
    stats = {int(path.parent.name): path.read_text() for path in Path("/proc").glob("[0-9]*/stat")}
    return [pid, *(child for child, stat in stats.items() if int(stat.rpartition(")")[2].split()[1]) == pid)]


@asynccontextmanager
async def reached(way: str, folder: Path) -> AsyncIterator[tuple[int, ssl.SSLContext | None, int, list[int]]]:
    """Run a relay in one of the ``WAYS``; yields the port, the trusted certificates, the pids of relay and proxy."""
    pem = certificate(folder / "relay.pem", HOST)
    own = {"tls_cert": pem} if way == "its own TLS" else {}
    with process(token=TOKEN, trust_proxies=["127.0.0.1"], **own) as relay:
        if way in ("alone", "its own TLS"):
            yield relay.port, ssl.create_default_context(cafile=pem) if own else None, relay.process.pid, []
            return
        async with behind(way, folder, relay) as (door, pid):
            trusted = ssl.create_default_context(cafile=door.cacert)
            (
                await join(door.port, trusted, "first", "alone")
            ).writer.transport.abort()  # wait for the proxy's workers
            yield door.port, trusted, relay.process.pid, family(pid)


@asynccontextmanager
async def behind(way: str, folder: Path, relay: Process) -> AsyncIterator[tuple[test_nginx.Front, int]]:
    if way == "nginx":
        roomy = test_nginx.MAIN.replace("worker_connections 64", "worker_connections 16384")
        with mock.patch.object(test_nginx, "MAIN", roomy):
            async with test_nginx.nginx(folder, relay.port) as found:
                yield found
        return
    pids: list[int] = []

    @asynccontextmanager
    async def seen(*command: str, **options: object) -> AsyncIterator[int]:
        async with front.program(*command, **options) as pid:  # type: ignore[arg-type]
            pids.append(pid)
            yield pid

    healthy = test_caddy.EXAMPLE.replace("health_uri /readyz", "health_uri /healthz")  # no metrics listener
    with mock.patch.object(test_caddy, "program", seen), mock.patch.object(test_caddy, "EXAMPLE", healthy):
        async with test_caddy.caddy(folder, f"127.0.0.1:{relay.port}", relay.port) as door:
            yield door, pids[0]


async def join(port: int, tls: ssl.SSLContext | None, peer: str, room: str) -> Raw:
    options = {} if tls is None else {"server_hostname": HOST}
    raw = Raw(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, **options))
    raw.writer.write(OPENING.replace(b"localhost", HOST.encode()))
    await raw.head()
    raw.writer.write(text({"type": "join", "peerId": peer, "room": room, "token": TOKEN, "key": "k" * 32}))
    assert (await raw.get())["type"] == "peer-list"
    return raw


async def memory(way: str, peers: int) -> tuple[float, float]:
    """Return the kB per idle peer, in the relay and in the proxy."""
    with tempfile.TemporaryDirectory() as folder:
        async with reached(way, Path(folder)) as (port, tls, relay, proxy):
            before = resident([relay]), resident(proxy)
            joined = [await join(port, tls, f"p{i}", f"r{i // 10}") for i in range(peers)]
            after = resident([relay]), resident(proxy)
            for raw in joined:
                raw.writer.transport.abort()
            return (after[0] - before[0]) / peers / 1000, (after[1] - before[1]) / peers / 1000


async def routing(way: str, frames: int) -> tuple[float, float]:
    """Return the CPU time per offer in µs, of the relay and of the proxy."""

    async def one(port: int, tls: ssl.SSLContext | None, number: int) -> None:
        room = f"r{number}"
        a, b = await join(port, tls, "A", room), await join(port, tls, "B", room)
        offer = text({"type": "offer", "from": "A", "to": "B", "sdp": SDP})
        ready.release()
        await begin.wait()
        for _ in range(frames // PAIRS):
            a.writer.write(offer)
            await b.frame()
        a.writer.transport.abort()
        b.writer.transport.abort()

    ready, begin = asyncio.Semaphore(0), asyncio.Event()
    with tempfile.TemporaryDirectory() as folder:
        async with reached(way, Path(folder)) as (port, tls, relay, proxy):
            async with asyncio.TaskGroup() as group:
                for number in range(PAIRS):
                    group.create_task(one(port, tls, number))
                for _ in range(PAIRS):
                    await ready.acquire()
                before = spent([relay]), spent(proxy)
                begin.set()
            after = spent([relay]), spent(proxy)
    return (after[0] - before[0]) / frames * 1e6, (after[1] - before[1]) / frames * 1e6


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=2_000)
    parser.add_argument("--frames", type=int, default=8_000)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("| TLS by | relay, kB per peer | proxy, kB per peer | relay, µs per offer | proxy, µs per offer |")
    print("|---|---|---|---|---|")
    for way in WAYS:
        held, worked = await memory(way, options.peers), await routing(way, options.frames)
        print(f"| {way} | " + " | ".join(f"{number:.0f}" for number in (*held, *worked)) + " |", flush=True)


if __name__ == "__main__":
    began = time.monotonic()
    asyncio.run(main())
    print(f"\n{time.monotonic() - began:.0f} s")
