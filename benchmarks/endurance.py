"""Leak test: a node (``peer run``) and a caller (the library) in two processes, sending each other the test source at
320x180, 15 fps.

    python benchmarks/endurance.py [--calls 500]     calls in sequence, each until its first frame
    python benchmarks/endurance.py --hours 1         one call, decoded, sampled once per minute

The numbers of threads, descriptors and asyncio tasks must be the same at the end as after the warm-up (the second
sample), and memory may grow by at most 20 MiB. Samples are taken between calls, after everything of the last call has
ended. ``--trace`` shows where Python's memory grows; it is slow. The exit code is 1 if something grew.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import lab
from lab import HERE, Holdings, holdings, machine, node, relay

from peer import Agent, Call
from peer.media.fanout import Reader

MEMORY_GOAL = 20.0
"""Maximum memory growth of a process, in MiB."""

LINGER = 3.0
"""Seconds after a call until its last thread has ended: a source stays open for 2 s."""

SENT = ("--video", "test", "--audio", "test", "--size", "320x180", "--fps", "15")


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one time."""

    held: Holdings
    tasks: int
    objects: int
    """Objects tracked by Python's garbage collector."""

    def cells(self) -> str:
        return f"{self.held.rss:.1f} | {self.held.threads} | {self.held.descriptors} | {self.tasks} | {self.objects}"


class Node:
    """The node's process, which reports about itself on request."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def sample(self, trace: bool) -> Sample:
        self._child.send_signal(signal.SIGUSR1)
        assert self._child.stderr is not None
        while line := await self._child.stderr.readline():
            if not line.startswith(b'{"event": "observed"'):
                sys.stderr.buffer.write(line)
                continue
            found: dict[str, Any] = json.loads(line)
            for size, count, places in found.get("grown", ()) if trace else ():
                print(f"    node: {size / 1024:+.0f} KiB in {count:+} blocks: {' < '.join(places)}")
            return Sample(holdings(self._child.pid), found["tasks"], found["objects"])
        raise RuntimeError(f"the node ended with {await self._child.wait()}")


def own_sample() -> Sample:
    gc.collect()
    return Sample(holdings(), len(asyncio.all_tasks()), len(gc.get_objects()))


@asynccontextmanager
async def pair(trace: bool, sending: bool = True) -> AsyncIterator[tuple[Node, Agent]]:
    """Run a node, and an agent that can call it."""
    observed = (str(HERE / "observed.py"), *(["--trace"] if trace else []))
    arguments = (*observed, "run", *SENT, "--speaker", "none", "--no-show", "-q")
    async with relay() as url, node(url, arguments, stderr=asyncio.subprocess.PIPE) as child:
        source = "test" if sending else "none"
        async with Agent("caller", server=url, video=source, audio=source, size=(320, 180), fps=15) as agent:
            await agent.wait_for("node", timeout=10)
            yield Node(child), agent


class Table:
    """A table that is printed as it is measured."""

    def __init__(self, first: str) -> None:
        sides = "RSS MiB | threads | descriptors | tasks | objects"
        print(f"{machine()}\n\n| {first} | node: {sides} | caller: {sides} |\n|{'---|' * 11}")
        self.rows: list[tuple[Sample, Sample]] = []

    def add(self, first: str, here: Sample, there: Sample) -> None:
        self.rows.append((there, here))
        print(f"| {first} | {there.cells()} | {here.cells()} |", flush=True)

    def verdict(self) -> bool:
        """Print the growth between the second and the last sample; return whether there was none."""
        warm, last = self.rows[min(1, len(self.rows) - 1)], self.rows[-1]
        flat = True
        print()
        for name, before, after in zip(("node", "caller"), warm, last, strict=True):
            grown = after.held.rss - before.held.rss
            counts = (after.held.threads, after.held.descriptors, after.tasks)
            same = counts == (before.held.threads, before.held.descriptors, before.tasks)
            flat = flat and same and grown <= MEMORY_GOAL
            print(
                f"\n{name}: {grown:+.1f} MiB; threads, descriptors and tasks {'flat' if same else 'NOT flat'}", end=""
            )
        print(f"; goal: flat, at most {MEMORY_GOAL:+g} MiB")
        return flat


async def calls(count: int, every: int, trace: bool) -> bool:
    """Make ``count`` calls in sequence."""
    async with pair(trace) as (there, agent):
        table = Table("calls")
        for made in range(count + 1):
            if made % every == 0:
                await asyncio.sleep(LINGER)
                table.add(str(made), own_sample(), await there.sample(trace))
            if made < count:
                async with agent.call("node") as call:
                    await call.first_frame(10)
    return table.verdict()


async def one_call(seconds: float, every: float, trace: bool, sending: bool) -> bool:
    """Make one call of ``seconds``."""
    async with pair(trace, sending) as (there, agent), agent.call("node") as call, asyncio.TaskGroup() as group:
        seen = [group.create_task(consume(reader)) for reader in (call.frames(), call.sound())]
        await call.first_frame(10)
        table = Table("minutes | fps")
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) <= seconds:
            table.add(f"{elapsed / 60:.0f} | {await fps(call)}", own_sample(), await there.sample(trace))
            try:
                async with asyncio.timeout(every):
                    raise RuntimeError(f"the call ended: {await call.ended()}")
            except TimeoutError:
                pass
        for task in seen:
            task.cancel()
    return table.verdict()


async def consume(reader: Reader[Any]) -> None:
    """Read decoded frames and discard them."""
    async for _ in reader:
        pass


async def fps(call: Call) -> float:
    return float((await call.stats()).video["fps"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--hours", type=float, help="one call of this length instead")
    parser.add_argument("--listen", action="store_true", help="with --hours: the caller sends nothing, half the load")
    parser.add_argument("--every", type=float, help="calls, or seconds, between samples (default: 50, 60)")
    parser.add_argument("--trace", action="store_true")
    options = parser.parse_args()
    if options.trace:
        tracemalloc.start()
    if options.hours:
        flat = lab.run(one_call(options.hours * 3600, options.every or 60, options.trace, not options.listen))
    else:
        flat = lab.run(calls(options.calls, int(options.every or 50), options.trace))
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
