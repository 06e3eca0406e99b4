"""Viewers of one node, in one process: WebRTC endpoints that count received frames without decoding them.

``python benchmarks/audience.py --server URL --viewers 8 [--codec h264]`` calls "node" from that many peers and prints
``{"event": "watching"}`` when each has received a frame, then one line per second with the totals of each viewer.
With ``--look`` they decode, and ``gap`` is the longest time between two decoded frames in that second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field

from peer import Agent, Call


@dataclass(slots=True)
class Watched:
    """Counters of one viewer, for complete frames."""

    id: str
    frames: int = 0
    size: int = 0
    keys: int = 0
    seen: int = 0
    width: int = 0
    gap: float = 0.0
    _last: float = field(default=0.0, repr=False)

    def looked(self, now: float) -> None:
        """Record a decoded frame."""
        self.seen += 1
        self.gap = max(self.gap, now - self._last)
        self._last = now

    def report(self) -> dict[str, object]:
        """Return the counters. A current pause counts towards ``gap``."""
        if self._last:
            self.gap = max(self.gap, time.monotonic() - self._last)
        counters = {name: value for name, value in asdict(self).items() if not name.startswith("_")}
        self.gap = 0.0
        return counters


async def count(call: Call, watched: Watched) -> None:
    with call.encoded() as packets:
        async for packet in packets:
            if packet.kind == "video":
                watched.frames += 1
                watched.size += len(packet.data)
                watched.keys += packet.key


async def look(call: Call, watched: Watched) -> None:
    with call.frames() as frames:
        async for frame in frames:
            watched.width = frame.width
            watched.looked(time.monotonic())


async def watch(options: argparse.Namespace) -> None:
    async with AsyncExitStack() as stack:
        all_watched = [Watched(f"{options.prefix}-{number}") for number in range(1, options.viewers + 1)]
        calls = []
        for watched in all_watched:
            agent = Agent(watched.id, server=options.server, video_codec=options.codec.split(","))
            await stack.enter_async_context(agent)
            await agent.wait_for("node", timeout=10)
            calls.append(await stack.enter_async_context(agent.call("node")))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for call, watched in zip(calls, all_watched, strict=True):
            await call.first_frame(30)
            group.create_task(count(call, watched))
            if options.look:
                group.create_task(look(call, watched))
        print(json.dumps({"event": "watching"}), flush=True)
        while True:
            await asyncio.sleep(1 - time.time() % 1)
            lost = [call.peer for call in calls if call.reason is not None]
            assert not lost, f"calls ended: {lost}"
            viewers = [watched.report() for watched in all_watched]
            print(json.dumps({"event": "watched", "time": time.monotonic(), "viewers": viewers}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--viewers", type=int, default=1)
    parser.add_argument("--codec", default="vp8", help="in order of preference: vp8,h264")
    parser.add_argument("--prefix", default="viewer", help="prefix of their ids")
    parser.add_argument("--look", action="store_true")
    try:
        asyncio.run(watch(parser.parse_args()))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
