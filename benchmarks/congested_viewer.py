"""One of four viewers on a 300 kbit/s link: the video it gets, and the effect on the other three.

    python benchmarks/congested_viewer.py [--codec vp8|h264] [--chromium] [--size 1280x720]

Four viewers watch one ``peer run`` that sends the real clip. All links are unlimited at first. Then the link of one
viewer is limited to 300 kbit/s with a queue of 0.3 s (link_emulator.py) for 40 s, of which the first ten let it
settle on a rate. Then it is unlimited again. The three others decode nothing (audience.py); the limited one decodes
everything, in a separate process or in headless Chromium. ``freeze`` is the longest time between two frames that it
decoded.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lab
from lab import HERE, OURS, Window, background, machine, next_event, node, python, relay, wait_until_quiet, write_raw
from link_emulator import LinkEmulator

AUDIENCE = str(HERE / "audience.py")
OTHERS = 3
STEP = 5
"""Seconds per row of the table."""

ADAPTING = 10
"""Seconds after the start of the limit that do not count as steady."""

Ask = Callable[[], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One row. ``rate``: limit in bit/s; ``fps`` to ``freeze``: the limited viewer; ``others``: fps and kbit/s."""

    ends: int
    rate: float | None
    fps: float
    kbps: float
    width: int
    freeze: float
    others: tuple[tuple[float, float], ...]

    def row(self) -> str:
        rate = "none" if self.rate is None else f"{self.rate / 1000:.0f}"
        others = f"{min(fps for fps, _ in self.others):.1f} | {' '.join(f'{kbps:.0f}' for _, kbps in self.others)}"
        slow = f"{self.fps:.1f} | {self.kbps:.0f} | {self.width} | {self.freeze:.2f}"
        return f"| {self.ends - STEP} to {self.ends} | {rate} | {slow} | {others} |"


@asynccontextmanager
async def slow_viewer(server: str, codec: str, chromium: bool) -> AsyncIterator[Ask]:
    """Run the viewer on the limited link; yields its report function."""
    if chromium:
        from browser import browser_viewer

        async with browser_viewer(server, "slow-1", codec) as viewer:
            yield viewer.report
        return
    arguments = (AUDIENCE, "--server", server, "--prefix", "slow", "--look", "--codec", codec)
    async with python(*arguments) as child:
        await next_event(child, "watching")
        lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def listen() -> None:
            while True:
                lines.put_nowait((await next_event(child, "watched"))["viewers"][0])

        async def report() -> dict[str, Any]:
            """Return the counters since the last report; waits for new ones if there are none."""
            found = [await lines.get()]
            while not lines.empty():
                found.append(lines.get_nowait())
            return found[-1] | {"gap": max(line["gap"] for line in found)}

        async with background(listen()):
            yield report


async def watch(
    link: LinkEmulator, slow: Ask, others: asyncio.subprocess.Process, phases: list[tuple[float | None, int]]
) -> list[Step]:
    """Run the ``phases`` of (rate, seconds) and print each step."""
    steps: list[Step] = []
    before, crowd, ends = await slow(), await next_event(others, "watched"), 0
    for rate, seconds in phases:
        link.rate = rate
        for _ in range(seconds // STEP):
            for _ in range(STEP):
                later = await next_event(others, "watched")
            now, ends = await slow(), ends + STEP
            elapsed = later["time"] - crowd["time"]
            pairs = zip(crowd["viewers"], later["viewers"], strict=True)
            step = Step(
                ends=ends,
                rate=rate,
                fps=(now["seen"] - before["seen"]) / elapsed,
                kbps=(now["size"] - before["size"]) * 8 / 1000 / elapsed,
                width=now["width"],
                freeze=now["gap"],
                others=tuple(
                    ((b["frames"] - a["frames"]) / elapsed, (b["size"] - a["size"]) * 8 / 1000 / elapsed)
                    for a, b in pairs
                ),
            )
            print(step.row(), flush=True)
            steps.append(step)
            before, crowd = now, later
    return steps


def summary(steps: list[Step], rate: float) -> str:
    """Summarize: the other viewers before and during the limit, and the limited one after it had adapted."""
    first = next(index for index, step in enumerate(steps) if step.rate == rate)
    free = steps[:first]
    tight = [step for step in steps if step.rate == rate]
    steady = tight[ADAPTING // STEP :]

    def of_others(some: list[Step], which: int) -> float:
        return statistics.fmean(viewer[which] for step in some for viewer in step.others)

    return (
        f"others: {of_others(free, 0):.1f} fps and {of_others(free, 1):.0f} kbit/s before, "
        f"{of_others(tight, 0):.1f} fps and {of_others(tight, 1):.0f} kbit/s during the limit\n"
        f"limited: {statistics.fmean(step.fps for step in steady):.1f} fps, "
        f"{statistics.fmean(step.kbps for step in steady):.0f} kbit/s, longest freeze "
        f"{max(step.freeze for step in steady):.2f} s steady, {max(step.freeze for step in tight):.2f} s in all"
    )


async def run(options: argparse.Namespace, clip: str) -> None:
    send = ("--video", clip, "--size", options.size, "--fps", "30")
    await wait_until_quiet(options.patience)
    print(f"{machine()}; {options.codec}, {options.size} at 30 fps, one of {OTHERS + 1} viewers limited\n")
    print("| seconds | limit, kbit/s | limited: fps | kbit/s | width | freeze, s | others: lowest fps | kbit/s |")
    print("|---|---|---|---|---|---|---|---|")
    phases = [(None, 15), (options.rate, ADAPTING + 30), (None, 30)]
    crowd = (AUDIENCE, "--viewers", str(OTHERS), "--codec", options.codec)
    async with (
        relay() as url,
        LinkEmulator(url) as link,
        node(url, (*OURS, *send)) as sender,
        python(*crowd, "--server", url) as others,
    ):
        await next_event(others, "watching")
        async with slow_viewer(link.url, options.codec, options.chromium) as slow:
            for _ in range(options.settle):
                await next_event(others, "watched")
            window = Window(sender.pid, others.pid)
            steps = await watch(link, slow, others, phases)
            spent = window.cost()
    limited = link.limited
    print(f"\n{summary(steps, options.rate)}")
    print(f"the link dropped {limited.dropped} of {limited.passed + limited.dropped} datagrams", end="; ")
    print(f"the node used {spent.cpu:.0%} of a core, other processes (and the limited viewer) {spent.others:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", choices=("vp8", "h264"), default="vp8")
    parser.add_argument("--chromium", action="store_true", help="the limited viewer is a browser")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--rate", type=float, default=300_000, help="bit/s")
    parser.add_argument("--settle", type=int, default=8, help="seconds before the table, for bitrates to rise")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="congested-") as folder:
        lab.run(run(options, write_raw(Path(folder) / "clip.y4m")))


if __name__ == "__main__":
    main()
