"""Time until all peers are back after a relay restart: ``python benchmarks/restart.py --peers 200 --away 5``.

A relay in a separate process is stopped with SIGTERM and started again on the same port after ``--away`` seconds.
The peers are signaling clients in this process, so their CPU time is included; times count from the moment at which
the relay reports that it listens. Then the same number of peers connects at one instant, without jitter: the
stampede that the backoff avoids.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peer.signaling.client import Joined, SignalingClient, SignalingEvent
from peer.signaling.messages import Join

HERE = Path(__file__).resolve().parent
RELAY = """
import asyncio, sys
from server.relay import RelayConfig
from server.run import serve
config = RelayConfig(port=int(sys.argv[1]))
asyncio.run(serve(config, started=lambda relay: print(relay.port, flush=True)))
"""


@contextmanager
def relay(port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-c", RELAY, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE.parent) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)


class Crowd:
    """Peers that reconnect by themselves, and the time at which each joined."""

    def __init__(self, url: str, peers: int, room: str | None) -> None:
        self.back: list[float] = []
        self._all = asyncio.Event()
        self._peers = peers
        self.members = [
            SignalingClient(url, Join(f"peer-{n}", room or f"room-{n // 10}", key=f"key-{n}"), self._told)
            for n in range(peers)
        ]

    def _told(self, event: SignalingEvent) -> None:
        if isinstance(event, Joined):
            self.back.append(time.perf_counter())
            if len(self.back) == self._peers:
                self._all.set()

    async def everybody(self) -> list[float]:
        await self._all.wait()
        back, self.back = self.back, []
        self._all.clear()
        return back


async def restart(peers: int, away: float, room: str | None) -> list[float]:
    """Return the seconds from the relay's return to the join of each peer."""
    async with asyncio.TaskGroup() as tasks:
        with relay() as (old, port):
            crowd = Crowd(f"ws://127.0.0.1:{port}/ws", peers, room)
            running = [tasks.create_task(member.run()) for member in crowd.members]
            await crowd.everybody()
            old.send_signal(signal.SIGTERM)
            await asyncio.to_thread(old.wait)
        await asyncio.sleep(away)
        with relay(port):
            listening = time.perf_counter()
            back = await crowd.everybody()
            for task in running:
                task.cancel()
    return sorted(at - listening for at in back)


async def stampede(peers: int) -> list[float]:
    """Return the seconds to the join of each of ``peers`` that connect at the same instant."""
    with relay() as (_, port):
        crowd = Crowd(f"ws://127.0.0.1:{port}/ws", peers, None)
        async with asyncio.TaskGroup() as tasks:
            started = time.perf_counter()
            running = [tasks.create_task(member.run()) for member in crowd.members]
            back = await crowd.everybody()
            for task in running:
                task.cancel()
    return sorted(at - started for at in back)


def row(title: str, seconds: list[float]) -> None:
    median, last = seconds[len(seconds) // 2], seconds[-1]
    print(f"| {title} | {median:.2f} s | {last:.2f} s |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peers", type=int, default=200)
    parser.add_argument("--away", type=float, default=5.0, help="seconds without a relay")
    parser.add_argument("--room", help="one room for all peers; default: ten peers per room")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    print("| peers | median | last |\n|---|---|---|")
    for _ in range(options.rounds):
        row(f"{options.peers} back", asyncio.run(restart(options.peers, options.away, options.room)))
    for _ in range(options.rounds):
        row(f"{options.peers} at one instant", asyncio.run(stampede(options.peers)))


if __name__ == "__main__":
    main()
