"""The cost of additional viewers: CPU of one 720p30 node with 1, 4, 8 and 16 viewers, ours and stock alternating.

    python benchmarks/viewers.py [--codec vp8|h264] [--viewers 1,4,8,16] [--rounds 1]

``ours`` is a real ``peer run``, ``stock`` is stock_node.py: plain aiortc behind the same relay. Both send a real
clip that the same code reads uncompressed from a file; ``source`` is the cost of reading it. Both are limited to
1.5 Mbit/s; ``default`` is ours at the bitrate it chooses. Viewers (audience.py) are WebRTC endpoints in a separate
process that decode nothing; ``fps`` is that of the slowest viewer. A node that does not deliver 30 fps to all of
them "cannot", and the CPU it would need is an estimate: its CPU, scaled up by the missing frames. ``viewers`` is
the CPU of the viewers' process: near 100% it is the bottleneck. ``others`` is the CPU of all other processes, in
cores: a row disturbed by them is measured again, up to three times.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lab
from lab import HERE, OURS, Window, machine, next_event, node, python, relay, wait_until_quiet, write_raw

STOCK = (str(HERE / "stock_node.py"),)
COMPARED = ("--max-bitrate", "1500k")
FPS = 30
ENOUGH = 29.0
"""Minimum fps of the slowest viewer that counts as 30: the windows do not begin at a frame."""

TRIES = 3


@dataclass(frozen=True, slots=True)
class Result:
    """``cpu``: share of a core. ``fps`` of the slowest viewer and the mean; kbit/s; key frames per minute."""

    cpu: float
    fps: float
    mean_fps: float
    kbps: float
    keys: float
    viewers: float
    """CPU of the viewers' process, in shares of a core. It has one busy thread: near 1 it is the bottleneck."""
    others: float
    allowed: float
    """CPU that other processes may use during the measurement, in cores."""

    @property
    def holds(self) -> bool:
        return self.fps >= ENOUGH

    @property
    def needs(self) -> float:
        """CPU that 30 fps would take: frames that were not sent were not encoded either."""
        return self.cpu if self.holds else self.cpu * FPS / max(self.mean_fps, 0.1)

    @property
    def disturbed(self) -> bool:
        return not self.holds and self.others > self.allowed

    @property
    def verdict(self) -> str:
        """The CPU, or why the figure is not valid."""
        if self.holds:
            return f"{self.cpu:.0%}"
        return f"{'disturbed' if self.disturbed else 'cannot'}: {self.cpu:.0%}, needs ≈ {self.needs:.0%}"

    def ratio(self, other: Result | None) -> str:
        """Return the CPU needed relative to ``other``; an estimate if one of them did not hold 30 fps."""
        if other is None:
            return ""
        return f"{'' if self.holds and other.holds else '≈ '}{self.needs / other.needs:.2f}"

    def figures(self) -> str:
        """Return the remaining columns of a row."""
        return f"{self.fps:.1f} | {self.kbps:.0f} | {self.keys:.0f} | {self.viewers:.0%} | {self.others:.2f}"


def changes(first: dict[str, Any], last: dict[str, Any], what: str) -> list[float]:
    """Return the rise of each viewer's counter per second between two reports of audience.py."""
    elapsed = last["time"] - first["time"]
    pairs = zip(first["viewers"], last["viewers"], strict=True)
    return [(after[what] - before[what]) / elapsed for before, after in pairs]


async def measure(command: tuple[str, ...], viewers: int, options: argparse.Namespace) -> Result | None:
    """Measure one node with ``viewers``; ``None``: not all of them could connect."""
    watch = (str(HERE / "audience.py"), "--viewers", str(viewers), "--codec", options.codec)
    async with relay() as url, node(url, command) as sender, python(*watch, "--server", url) as audience:
        try:
            await next_event(audience, "watching")
            for _ in range(options.settle):
                await next_event(audience, "watched")
            first = await next_event(audience, "watched")
            spending = Window(sender.pid, audience.pid)
            for _ in range(options.window):
                last = await next_event(audience, "watched")
        except RuntimeError:
            return None
        spent = spending.cost()
        return Result(
            cpu=spent.cpu,
            viewers=spent.known,
            others=spent.others,
            allowed=options.busy,
            fps=min(changes(first, last, "frames")),
            mean_fps=statistics.fmean(changes(first, last, "frames")),
            kbps=statistics.fmean(changes(first, last, "size")) * 8 / 1000,
            keys=statistics.fmean(changes(first, last, "keys")) * 60,
        )


async def undisturbed(command: tuple[str, ...], viewers: int, options: argparse.Namespace) -> Result | None:
    """``measure`` on a quiet machine; the last try counts in any case."""
    for _ in range(TRIES):
        await wait_until_quiet(options.patience, options.busy)
        result = await measure(command, viewers, options)
        if result is None or not result.disturbed:
            break
    return result


def add_measuring(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``undisturbed``."""
    parser.add_argument("--settle", type=int, default=8, help="seconds before a window, for bitrates to rise")
    parser.add_argument("--window", type=int, default=10, help="seconds")
    parser.add_argument("--patience", type=float, default=60, help="seconds to wait for a quiet machine")
    parser.add_argument("--busy", type=float, default=0.3, help="cores that other processes may use meanwhile")


async def source_alone(video: tuple[str, ...], window: int) -> float:
    """Measure the CPU of reading the clip and discarding it."""
    async with relay() as url, node(url, (*STOCK, *video, "--viewers", "0")) as reader:
        spending = Window(reader.pid)
        await asyncio.sleep(window)
        return spending.cost().cpu


def median(results: list[Result | None]) -> Result | None:
    """Return the median result by CPU; ``None`` if one of them failed."""
    whole = sorted((result for result in results if result is not None), key=lambda result: result.needs)
    return whole[len(whole) // 2] if whole and len(whole) == len(results) else None


def row(viewers: int, name: str, result: Result | None, alone: Result | None, stock: Result | None) -> str:
    """Format a row. ``alone``: the same node with 1 viewer; ``stock``: stock with as many viewers."""
    if result is None:
        return f"| {viewers} | {name} | cannot: not all of them connect | | | | | | | |"
    to_stock = "" if name == "stock" else result.ratio(stock)
    return f"| {viewers} | {name} | {result.verdict} | {result.ratio(alone)} | {to_stock} | {result.figures()} |"


async def compare(options: argparse.Namespace, video: tuple[str, ...]) -> None:
    nodes = {"stock": (*STOCK, *video, *COMPARED), "ours": (*OURS, *video, *COMPARED), "default": (*OURS, *video)}
    counts = [int(number) for number in options.viewers.split(",")]
    print(
        f"{machine()}; {options.codec}, 1280x720 at 30 fps, windows of {options.window} s, rounds: {options.rounds}"
    )
    print(f"the source alone: {await source_alone(video, options.window):.1%}\n")
    figures = "fps | kbit/s | key frames/min | viewers | others"
    print(f"| viewers | node | CPU of a core | relative to 1 viewer | relative to stock | {figures} |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    alone: dict[str, Result | None] = {}
    for viewers in counts:
        results: dict[str, list[Result | None]] = {name: [] for name in nodes if name in options.nodes.split(",")}
        for _ in range(options.rounds):
            for name, taken in results.items():
                taken.append(await undisturbed(nodes[name], viewers, options))
        stock = median(results["stock"]) if "stock" in results else None
        for name, taken in results.items():
            result = median(taken)
            if viewers == 1:
                alone[name] = result
            print(row(viewers, name, result, alone.get(name), stock), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", choices=("vp8", "h264"), default="vp8")
    parser.add_argument("--viewers", default="1,4,8,16")
    parser.add_argument("--nodes", default="stock,ours,default")
    parser.add_argument("--rounds", type=int, default=1, help="rounds; the median counts")
    add_measuring(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="viewers-") as folder:
        clip = write_raw(Path(folder) / "clip.y4m")
        lab.run(compare(options, ("--video", clip, "--size", "1280x720", "--fps", str(FPS))))


if __name__ == "__main__":
    main()
