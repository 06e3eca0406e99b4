"""Windows for the local preview and for the video of each remote, shown by a child process.

Only the child (``child``) imports OpenCV. For each window, a task here takes frames from a fan-out, converts them in
the one conversion thread and writes them to shared memory. Frames are scaled to the window's size on the screen, so
one swscale pass both scales and converts, and no pixel is copied that is not shown.

Windows are optional. If they fail (no display, no libGL, X server gone, child killed), calls go on without them, and
one notice gives the reason.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..fanout import Fanout, Reader
from .child_process import ChildProcess
from .shared_memory import SharedFrameWriter

LOCAL: Final = ""
"""Key of the local preview. It is no peer's id, because an id has at least one character."""

_START_TIMEOUT: Final = 15.0
"""Maximum time for the child to import cv2, in seconds. It takes 0.3 s on a fast machine, many on a small board."""

_MAX_STARTS: Final = 3
"""Maximum number of times that the child is started. It is started again only if it was ready before it died."""

_SYSTEM_LIBRARIES: Final = "libgl1 libglib2.0-0 libice6 libsm6"
"""Debian packages with the libraries that the opencv-python wheel and its Qt plugin need but do not contain. libgl1
depends on the X libraries. ``setup.sh`` installs the same packages."""

_INITIAL_SIZE: Final = (640, 360)
"""Assumed size of a window until the child reports it, in pixels."""


def available() -> str | None:
    """Return why windows cannot work here, or ``None``. Checks the environment only, so it is cheap."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        if os.environ.get("WAYLAND_DISPLAY"):
            return "no windows: DISPLAY is not set, and OpenCV's windows need X; start Xwayland"
        return "no windows: DISPLAY is not set; log in at a desktop, use ssh -X, or pass --no-show"
    return None


@dataclass(slots=True)
class _Window:
    """One window. ``size`` is that of its content on the screen, in pixels."""

    title: str
    frames: Fanout[av.VideoFrame]
    size: tuple[int, int] = _INITIAL_SIZE
    reader: Reader[av.VideoFrame] | None = None
    reformatter: VideoReformatter = field(default_factory=VideoReformatter)

    def write(self, memory: SharedFrameWriter, frame: av.VideoFrame, fps: float) -> None:
        """Convert ``frame`` to BGR, no larger than the window, in ``memory``. Runs in the conversion thread."""
        max_scale = math.sqrt(memory.max_pixels / (frame.width * frame.height))
        scale = min(1.0, max_scale, self.size[0] / frame.width, self.size[1] / frame.height)
        width, height = max(int(frame.width * scale), 1), max(int(frame.height * scale), 1)
        plane = self.reformatter.reformat(frame, width, height, "bgr24").planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        memory.write(rows.reshape(height, width, 3), frame.width, frame.height, fps)


class _FrameRate:
    """Frames per second, measured over one second at a time."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._count = 0
        self.fps = 0.0

    def count(self, frames: int) -> None:
        """Count ``frames`` more frames, dropped ones included."""
        self._count += frames
        elapsed = time.monotonic() - self._since
        if elapsed >= 1:
            self.fps = self._count / elapsed
            self._since, self._count = time.monotonic(), 0


class Windows:
    """All windows of one agent. Tasks run in ``tasks``; all methods must be called in the event loop.

    ``on_close(key)`` is called when the user closes the window of ``key`` with q, Esc or the close button, so that
    its call is hung up. It is not called for the preview, which is only hidden. ``on_notice(line)`` receives the
    reason when windows do not work, or stop working.
    """

    def __init__(
        self, tasks: asyncio.TaskGroup, on_close: Callable[[str], None], on_notice: Callable[[str], None]
    ) -> None:
        self._tasks = tasks
        self._on_close = on_close
        self._on_notice = on_notice
        self._windows: dict[str, _Window] = {}
        self._child: ChildProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._pool: ThreadPoolExecutor | None = None

    async def start(self) -> bool:
        """Start the child. If windows cannot work, give a notice and return False; other methods then do nothing.

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
        """Open a window for ``key``, in place of an existing one. It closes when ``frames`` is closed."""
        self.hide(key)
        self._windows[key] = _Window(title, frames)
        if self._child is not None:
            self._open(key)

    def hide(self, key: str) -> None:
        """Close the window of ``key``, if there is one, without calling ``on_close``."""
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
            for attempt in range(1, _MAX_STARTS + 1):
                child = await ChildProcess.start()
                self._tasks.create_task(child.collect_stderr(), name="windows stderr")
                try:
                    failure = await self._serve(child, started)
                finally:
                    self._stop_copying()
                    await child.close()
                again = attempt < _MAX_STARTS and child.screen is not None
                if not again:
                    self._on_notice(failure)
                    break
                self._on_notice(f"{failure}; restarting the windows")
        except OSError as exc:
            self._on_notice(f"no windows: their process cannot be started ({exc.strerror})")
        finally:
            if not started.done():
                started.set_result(False)
            assert self._pool is not None
            self._pool.shutdown(wait=False)

    async def _serve(self, child: ChildProcess, started: asyncio.Future[bool]) -> str:
        """Handle the messages of ``child`` until it ends. Return why it ended, in one line."""
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
                            return _failure_notice(text)
                        case {"event": "size", "id": str(key), "width": int(width), "height": int(height)}:
                            if key in self._windows:
                                self._windows[key].size = (width, height)
                        case {"event": "close", "id": str(key)}:
                            self._on_user_close(key)
        except TimeoutError:
            return f"no windows: OpenCV did not start within {_START_TIMEOUT:.0f} s"
        return f"the windows have closed: {await child.exit_reason()}"

    def _on_user_close(self, key: str) -> None:
        if key in self._windows:
            self.hide(key)
            if key != LOCAL:
                self._on_close(key)

    # --- frames to the child ---

    def _open(self, key: str) -> None:
        window = self._windows[key]
        assert self._child is not None and self._child.screen is not None
        try:
            memory = SharedFrameWriter(self._child.screen[0] * self._child.screen[1])
        except OSError as exc:
            self._on_notice(f"no window for {window.title}: {exc.strerror}")
            return
        self._child.send({"op": "show", "id": key, "title": window.title}, memory.fileno())
        window.reader = window.frames.read(1)
        self._tasks.create_task(self._copy(key, window, window.reader, memory), name=f"window {key}")

    def _stop_copying(self) -> None:
        self._child = None
        for window in self._windows.values():
            if window.reader is not None:
                window.reader.close()
                window.reader = None

    async def _copy(
        self, key: str, window: _Window, reader: Reader[av.VideoFrame], memory: SharedFrameWriter
    ) -> None:
        """Copy frames from ``reader`` to ``memory`` until the reader or its fan-out is closed."""
        loop, rate, dropped = asyncio.get_running_loop(), _FrameRate(), 0
        writing: asyncio.Future[None] | None = None
        try:
            async for frame in reader:
                if reader.closed:
                    break  # a closed reader still yields its queued items
                rate.count(1 + reader.dropped - dropped)
                dropped = reader.dropped
                writing = loop.run_in_executor(self._pool, window.write, memory, frame, rate.fps)
                await asyncio.shield(writing)
        except (av.FFmpegError, ValueError) as exc:  # a pixel format that swscale does not support
            self._on_notice(f"the window of {window.title} is closed: {exc}")
            if self._windows.get(key) is window:
                self.hide(key)
        finally:
            reader.close()
            if writing is not None and not writing.done():
                writing.add_done_callback(lambda _: memory.close())
            else:
                memory.close()
        if window.frames.closed and self._windows.get(key) is window:
            self.hide(key)


def _failure_notice(why: str) -> str:
    """Return the child's reason for its failure as one line with a hint."""
    first = why.strip().split("\n")[0]
    if "No module named" in why:
        hint = "pip install opencv-python"
    elif ".so" in why:
        hint = f"install the system libraries OpenCV needs: apt-get install {_SYSTEM_LIBRARIES}"
    elif "not implemented" in why:
        first, hint = (
            "this OpenCV was built without windows",
            "pip install opencv-python instead of opencv-python-headless",
        )
    elif "display" in why:
        hint = "check that the X server runs and allows access (xhost, XAUTHORITY)"
    else:
        hint = "pass --no-show to run without windows"
    return f"no windows: {first}; {hint}"
