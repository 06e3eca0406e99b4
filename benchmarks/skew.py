"""Lip sync: the offset between the flash and the beep of the test source, which start together in each second.

    python benchmarks/skew.py [--seconds 20]

``live`` is a call: the delivery time of the first white frame, compared with that of the beep's onset. The files are
recordings of such calls; their timestamps are compared. Skew is audio minus video: positive if the audio is late.
Goal: within 40 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import lab
import numpy as np
from lab import PEER, machine, node, relay

from peer import Agent, Call
from peer.media.test_pattern import beep_onsets, read_pattern

GOAL_MS = 40.0
SENT = ("--video", "test", "--audio", "test", "--size", "640x360", "--fps", "30", "--speaker", "none", "--no-show")
RATE = 48_000


class Flashes:
    """The times at which the panel turns white."""

    def __init__(self) -> None:
        self.at: list[float] = []
        self._white = True  # a first frame in the middle of a flash is no onset
        self._frame = -1

    def add(self, frame: av.VideoFrame, moment: float) -> None:
        seen = read_pattern(frame.to_ndarray(format="gray"))
        if seen is None:
            return
        follows = seen.frame == self._frame + 1  # after a gap the time of the change is unknown
        if seen.flash and not self._white and follows:
            self.at.append(moment)
        self._white, self._frame = seen.flash, seen.frame


class Beeps:
    """The onsets of the beeps."""

    def __init__(self) -> None:
        self._pieces: list[np.ndarray[Any, Any]] = []
        self._starts: list[int] = []
        self._moments: list[float] = []
        self._samples = 0

    def add(self, frame: av.AudioFrame, moment: float) -> None:
        samples = frame.to_ndarray()
        mono = samples[0] if frame.format.is_planar else samples[0, :: frame.layout.nb_channels]
        self._pieces.append(mono.astype(np.float64))
        self._starts.append(self._samples)
        self._moments.append(moment)
        self._samples += mono.size

    def at(self) -> list[float]:
        found = []
        for onset in beep_onsets(np.concatenate(self._pieces), RATE) if self._pieces else ():
            piece = bisect.bisect_right(self._starts, onset * RATE) - 1
            found.append(self._moments[piece] + onset - self._starts[piece] / RATE)
        return found


def skews(flashes: list[float], beeps: list[float]) -> list[float]:
    """Return the seconds from each flash to the nearest beep."""
    pairs = [(flash, min(beeps, key=lambda beep: abs(beep - flash))) for flash in flashes] if beeps else []
    return [beep - flash for flash, beep in pairs if abs(beep - flash) < 0.5]


async def live(call: Call, seconds: float) -> list[float]:
    """Measure a live call by delivery times."""
    flashes, beeps = Flashes(), Beeps()

    async def watch_video() -> None:
        with call.frames() as reader:
            async for frame in reader:
                flashes.add(frame, time.monotonic())

    async def listen() -> None:
        with call.sound() as reader:
            async for piece in reader:
                beeps.add(piece, time.monotonic())

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch_video()), group.create_task(listen())]
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
    return skews(flashes.at, beeps.at())


def recorded(path: Path) -> list[float]:
    """Measure a recording by its timestamps."""
    flashes, beeps = Flashes(), Beeps()
    with av.open(str(path)) as container:
        frames: Iterator[Any] = container.decode()
        for frame in frames:
            if isinstance(frame, av.VideoFrame):
                flashes.add(frame, frame.time or 0.0)
            elif isinstance(frame, av.AudioFrame):
                beeps.add(frame, frame.time or 0.0)
    return skews(flashes.at, beeps.at())


def row(what: str, found: list[float], each: bool) -> str:
    if each:
        print(" ".join(f"{skew * 1000:+.0f}" for skew in found))
    if len(found) < 3:
        return f"| {what} | {len(found)} | nothing to measure | | | |"
    ms = [skew * 1000 for skew in found]
    verdict = "yes" if max(map(abs, ms)) <= GOAL_MS else "no"
    return f"| {what} | {len(ms)} | {statistics.median(ms):+.0f} | {min(ms):+.0f} | {max(ms):+.0f} | {verdict} |"


async def run(seconds: float, each: bool, folder: Path) -> None:
    print(f"{machine()}; 640x360 at 30 fps, {seconds:g} s each\n")
    print("| what | flashes | median skew, ms | min | max | within 40 ms |\n|---|---|---|---|---|---|")
    async with (
        relay() as url,
        node(url, (*PEER, "run", *SENT, "-qq")),
        Agent("viewer", server=url) as vp8,
        Agent("viewer-h264", server=url, video_codec=("h264",)) as h264,
    ):
        for agent in (vp8, h264):
            await agent.wait_for("node", timeout=10)
        async with vp8.call("node") as call:
            await call.first_frame(10)
            print(row("live", await live(call, seconds), each), flush=True)
        for suffix, agent in (("mkv", vp8), ("webm", vp8), ("mp4", h264)):
            path = folder / f"call.{suffix}"
            async with agent.call("node") as call:
                await call.record(path, seconds=seconds)
            print(row(f"recording, {suffix}", recorded(path), each), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--each", action="store_true", help="print the skew of each flash, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="skew-") as folder:
        lab.run(run(options.seconds, options.each, Path(folder)))


if __name__ == "__main__":
    main()
