"""Windows for the local preview and for each remote picture, in a process of their own.

The child (child.py) has cv2; here are the pumps: one a window, from a fan-out through one conversion thread
into shared memory. A window takes its pictures in the size it has on the screen, so that one swscale pass both
scales and converts, and what is not seen is not copied.

Windows are a luxury: whatever happens to them (no display, no libGL, the X server gone, the child killed) costs one
notice and the windows, never a call.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..fanout import Fanout, Reader
from .shared_memory import SharedFrameWriter

LOCAL: Final = ""
"""Key of the local preview. No peer has it: an id has at least one character."""

_START_TIMEOUT: Final = 15.0
"""Seconds for the child to import cv2: 0.3 s here, many on a small board with a cold disk."""

_STARTS: Final = 3
"""How often the child is started, when one that had worked dies, before we stop trying."""

_SYSTEM_LIBRARIES: Final = "libgl1 libglib2.0-0 libice6 libsm6"
"""Debian packages of what the opencv-python wheel and its Qt plugin link to and do not bring. libgl1 depends on the X
libraries. ``setup.sh`` installs the same."""

_FIRST_BOX: Final = (640, 360)
_STDERR_KEPT: Final = 4096


def available() -> str | None:
    """Why there can be no windows here, or ``None``. Cheap: looks at the environment only."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if os.environ.get("WAYLAND_DISPLAY"):
            return "no windows: DISPLAY is not set, and OpenCV's windows need X; start Xwayland"
        return "no windows: DISPLAY is not set; log in at a desktop, use ssh -X, or pass --no-show"
    return None


@dataclass(slots=True)
class _Window:
    """One window as the peer's side knows it. ``box`` is its inside on the screen, in pixels."""

    title: str
    frames: Fanout[av.VideoFrame]
    box: tuple[int, int] = _FIRST_BOX
    reader: Reader[av.VideoFrame] | None = None
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def paint(self, memory: SharedFrameWriter, frame: av.VideoFrame, fps: float) -> None:
        """Convert ``frame`` to BGR, no larger than the window, into ``memory``. Runs in the conversion thread."""
        room = math.sqrt(memory.max_pixels / (frame.width * frame.height))
        scale = min(1.0, room, self.box[0] / frame.width, self.box[1] / frame.height)
        width, height = max(int(frame.width * scale), 1), max(int(frame.height * scale), 1)
        plane = self.reformatter.reformat(frame, width, height, "bgr24").planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        memory.write(rows.reshape(height, width, 3), frame.width, frame.height, fps)


class _Rate:
    """Frames a second, over the last second or so."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0
        self.fps = 0.0

    def count(self, frames: int) -> None:
        """``frames`` more have come (those that were dropped on the way included)."""
        self._count += frames
        elapsed = time.monotonic() - self._since
        if elapsed >= 1:
            self.fps = self._count / elapsed
            self._since, self._count = time.monotonic(), 0


class Windows:
    """All windows of one agent. Its tasks live in ``tasks``; every method belongs to the event loop.

    ``on_close(key)``: the user closed the window of ``key`` (q, Esc, close button), to be hung up; the preview is
    merely hidden, without a call. ``on_notice(line)``: why there are no windows (any more).
    """

    def __init__(
        self, tasks: asyncio.TaskGroup, on_close: Callable[[str], None], on_notice: Callable[[str], None]
    ) -> None:
        self._tasks = tasks
        self._on_close = on_close
        self._on_notice = on_notice
        self._windows: dict[str, _Window] = {}
        self._child: _Child | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._pool: ThreadPoolExecutor | None = None

    async def start(self) -> bool:
        """Start the child. False, after a notice, when there can be no windows; calls to the others then do nothing.

        ``show`` may be called before this has returned.
        """
        why = available()
        if why is not None:
            self._on_notice(why)
            return False
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="windows")
        started: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._supervisor = self._tasks.create_task(self._supervise(started), name="windows")
        return await started

    def show(self, key: str, title: str, frames: Fanout[av.VideoFrame]) -> None:
        """Open a window, or give the one of ``key`` another title and source. It closes when ``frames`` does."""
        self.hide(key)
        self._windows[key] = _Window(title, frames)
        if self._child is not None:
            self._open(key)

    def hide(self, key: str) -> None:
        """Close the window of ``key``, if there is one, without a word to ``on_close``."""
        window = self._windows.pop(key, None)
        if window is None:
            return
        if window.reader is not None:
            window.reader.close()
        if self._child is not None:
            self._child.send({"op": "hide", "id": key})

    async def close(self) -> None:
        """Close all windows and end the child. May be called twice."""
        for key in list(self._windows):
            self.hide(key)
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            await asyncio.wait([supervisor])

    # --- the child ---

    async def _supervise(self, started: asyncio.Future[bool]) -> None:
        try:
            for attempt in range(1, _STARTS + 1):
                child = await _Child.start()
                self._tasks.create_task(child.listen(), name="windows stderr")
                try:
                    failure = await self._serve(child, started)
                finally:
                    self._stop_pumps()
                    await child.close()
                again = attempt < _STARTS and child.screen is not None
                if not again:
                    self._on_notice(failure)
                    break
                self._on_notice(f"{failure}; starting the windows again")
        except OSError as exc:
            self._on_notice(f"no windows: their process cannot be started ({exc.strerror})")
        finally:
            if not started.done():
                started.set_result(False)
            assert self._pool is not None
            self._pool.shutdown(wait=False)

    async def _serve(self, child: _Child, started: asyncio.Future[bool]) -> str:
        """Do what ``child`` says until it is gone; why it went, as one line."""
        why = "their process did not start"
        try:
            async with asyncio.timeout(_START_TIMEOUT) as limit:
                async for message in child.messages():
                    match message:
                        case {"event": "ready", "width": int(width), "height": int(height)}:
                            limit.reschedule(None)
                            child.screen = (width, height)
                            self._child = child
                            for key in self._windows:
                                self._open(key)
                            if not started.done():
                                started.set_result(True)
                        case {"event": "failed", "why": str(text)}:
                            return _explain(text)
                        case {"event": "size", "id": str(key), "width": int(width), "height": int(height)}:
                            if key in self._windows:
                                self._windows[key].box = (width, height)
                        case {"event": "close", "id": str(key)}:
                            self._closed(key)
        except TimeoutError:
            return f"no windows: OpenCV did not start within {_START_TIMEOUT:.0f} s"
        why = await child.epitaph()
        return f"the windows are gone: {why}"

    def _closed(self, key: str) -> None:
        if key in self._windows:
            self.hide(key)
            if key != LOCAL:
                self._on_close(key)

    # --- the pumps ---

    def _open(self, key: str) -> None:
        window = self._windows[key]
        assert self._child is not None and self._child.screen is not None
        try:
            memory = SharedFrameWriter(self._child.screen[0] * self._child.screen[1])
        except OSError as exc:
            self._on_notice(f"no window of {window.title}: {exc.strerror}")
            return
        self._child.send({"op": "show", "id": key, "title": window.title}, memory.fileno())
        window.reader = window.frames.read(1)
        self._tasks.create_task(self._pump(key, window, window.reader, memory), name=f"window {key}")

    def _stop_pumps(self) -> None:
        self._child = None
        for window in self._windows.values():
            if window.reader is not None:
                window.reader.close()
                window.reader = None

    async def _pump(
        self, key: str, window: _Window, reader: Reader[av.VideoFrame], memory: SharedFrameWriter
    ) -> None:
        """From ``reader`` into ``memory`` until one of them is closed."""
        loop, rate, dropped = asyncio.get_running_loop(), _Rate(), 0
        painting: asyncio.Future[None] | None = None
        try:
            async for frame in reader:
                if reader.closed:
                    break  # a closed reader still hands out what waited
                rate.count(1 + reader.dropped - dropped)
                dropped = reader.dropped
                painting = loop.run_in_executor(self._pool, window.paint, memory, frame, rate.fps)
                await asyncio.shield(painting)
        except (av.FFmpegError, ValueError) as exc:  # a pixel format swscale cannot read
            self._on_notice(f"the window of {window.title} is closed: {exc}")
            if self._windows.get(key) is window:
                self.hide(key)
        finally:
            reader.close()
            if painting is not None and not painting.done():
                painting.add_done_callback(lambda _: memory.close())
            else:
                memory.close()
        if window.frames.closed and self._windows.get(key) is window:
            self.hide(key)


class _Child:
    """The child process, its socket and its last words."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket) -> None:
        self._process = process
        self._control = control
        self._stderr = b""
        self._silent = asyncio.Event()
        self.screen: tuple[int, int] | None = None
        """Its size in pixels, once the child is ready."""

    @classmethod
    async def start(cls) -> _Child:
        """Raises ``OSError`` when there is no more room for a process."""
        ours, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(Path(__file__).parents[3])]))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-P", "-m", "peer.media.windows.child", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                env=os.environ | {"PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is the agent's to handle
            )
        ours.setblocking(False)
        return cls(process, ours)

    def send(self, message: dict[str, str], descriptor: int | None = None) -> None:
        """One line, with a descriptor if there is one. A child that is gone or stuck is noticed elsewhere."""
        try:
            socket.send_fds(
                self._control,
                [json.dumps(message).encode() + b"\n"],
                [] if descriptor is None else [descriptor],
            )
        except OSError:
            pass

    async def messages(self) -> AsyncIterator[dict[str, object]]:
        """What the child says, until it is gone."""
        loop, pending = asyncio.get_running_loop(), b""
        while True:
            try:
                data = await loop.sock_recv(self._control, 4096)
            except ConnectionResetError:
                return
            if not data:
                return
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                yield json.loads(line)

    async def listen(self) -> None:
        """Keep the end of what it writes to stderr, until it is gone."""
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(_STDERR_KEPT):
            self._stderr = (self._stderr + data)[-_STDERR_KEPT:]
        self._silent.set()

    async def epitaph(self) -> str:
        """Why it died: its exit code and the last line it wrote."""
        code = await self._process.wait()
        await self._silent.wait()
        words = self._stderr.decode("utf-8", "replace").split("\n")
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        last = next((line.strip() for line in reversed(words) if line.strip()), "")
        return f"{how}: {last}" if last else how

    async def close(self) -> None:
        """End it: it leaves when the socket closes, and is killed if it does not within a second."""
        self._control.close()
        try:
            async with asyncio.timeout(1):
                await self._process.wait()
        except TimeoutError:
            pass
        finally:
            if self._process.returncode is None:
                self._process.kill()
                await self._process.wait()


def _explain(why: str) -> str:
    """A child's reason as one line that says what to do."""
    first = why.strip().split("\n")[0]
    if "No module named" in why:
        hint = "pip install opencv-python"
    elif ".so" in why:
        hint = f"install the system libraries OpenCV needs: apt-get install {_SYSTEM_LIBRARIES}"
    elif "not implemented" in why:
        first, hint = "this OpenCV was built without windows", "pip install opencv-python, not its headless sister"
    elif "display" in why:
        hint = "is the X server running, and may we use it (xhost, XAUTHORITY)?"
    else:
        hint = "pass --no-show to do without"
    return f"no windows: {first}; {hint}"
