"""Windows on a real X server."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

import av
import numpy as np
import pytest

from peer.media.fanout import Fanout
from peer.media.windows.windows import _SYSTEM_LIBRARIES, LOCAL, Windows, available
from tests import x_server
from tests.x_server import XServer

pytestmark = pytest.mark.display

RED, GREEN, BLUE = (200, 20, 20), (20, 200, 20), (20, 20, 200)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[XServer]:
    """An X server without a window manager, in DISPLAY."""
    with x_server.running() as server:
        monkeypatch.setenv("DISPLAY", server.name)
        yield server


class Camera:
    """Video of one color at 30 frames per second."""

    def __init__(self, color: tuple[int, int, int], width: int = 640, height: int = 360) -> None:
        self.color, self.width, self.height = color, width, height
        self.frames: Fanout[av.VideoFrame] = Fanout()

    async def run(self) -> None:
        while not self.frames.closed:
            pixels = np.full((self.height, self.width, 3), self.color, np.uint8)
            self.frames.put(av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p"))
            await asyncio.sleep(1 / 30)


class Desk:
    """Windows, with the closed calls and notices that they reported."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.tasks = tasks
        self.closed: asyncio.Queue[str] = asyncio.Queue()
        self.notices: asyncio.Queue[str] = asyncio.Queue()
        self.windows = Windows(tasks, self.closed.put_nowait, self.notices.put_nowait)

    def show(self, key: str, title: str, camera: Camera) -> None:
        self.tasks.create_task(camera.run())
        self.windows.show(key, title, camera.frames)


@asynccontextmanager
async def desk(*cameras: Camera) -> AsyncIterator[Desk]:
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        it = Desk(tasks)
        try:
            yield it
        finally:
            await it.windows.close()
            for camera in cameras:
                camera.frames.close()


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return output.decode().strip()


async def _window(title: str) -> str:
    """Wait for a window whose title starts with ``title``. Return its X id."""
    return (await _run("xdotool", "search", "--sync", "--onlyvisible", "--name", f"^{title}( |$)")).split("\n")[-1]


def _screenshot() -> np.ndarray:
    with av.open(os.environ["DISPLAY"], format="x11grab", options={"video_size": "1280x800"}) as screen:
        return next(screen.decode(video=0)).to_ndarray(format="rgb24")


def _share(screen: np.ndarray, color: tuple[int, int, int]) -> int:
    """Return the number of pixels of that color, with a tolerance for YUV conversion."""
    return int((np.abs(screen.astype(int) - color).max(axis=2) < 12).sum())


async def _until(condition: Callable[[], bool]) -> None:
    while not await asyncio.to_thread(condition):
        await asyncio.sleep(0.05)


async def _press(key: str, window: str) -> None:
    await _run("xdotool", "windowfocus", "--sync", window, "key", key)


async def test_windows_preview_and_remotes_do_not_overlap(display: object) -> None:
    me, door, yard = Camera(RED), Camera(GREEN, 1920, 1080), Camera(BLUE, 360, 640)  # one is larger than the screen
    async with desk(me, door, yard) as it:
        it.show(LOCAL, "me", me)
        assert await it.windows.start()
        it.show("door", "door", door)
        it.show("yard", "yard", yard)
        for color, pixels in ((RED, 90_000), (GREEN, 90_000), (BLUE, 25_000)):
            await _until(lambda color=color, pixels=pixels: _share(_screenshot(), color) > pixels)
        assert await _window("door 1920x1080")


async def test_windows_title_shows_size_and_frame_rate(display: object) -> None:
    door = Camera(GREEN)
    async with desk(door) as it:
        assert await it.windows.start()
        it.show("door", "door", door)
        window = await _window("door 640x360 [12][0-9] fps|^door 640x360 3[0-4] fps")
        assert "fps" in await _run("xdotool", "getwindowname", window)


@pytest.mark.parametrize("key", ["q", "Escape"])
async def test_windows_key_closes_only_the_focused_window(display: object, key: str) -> None:
    me, door, yard = Camera(RED), Camera(GREEN), Camera(BLUE)
    async with desk(me, door, yard) as it:
        assert await it.windows.start()
        it.show(LOCAL, "me", me)
        it.show("door", "door", door)
        it.show("yard", "yard", yard)
        await _until(lambda: _share(_screenshot(), GREEN) > 10_000)
        await _press(key, await _window("door"))
        assert await it.closed.get() == "door"
        await _until(lambda: _share(_screenshot(), GREEN) == 0)
        assert _share(_screenshot(), BLUE) > 10_000
        assert door.frames.readers == 0 and yard.frames.readers == 1
        assert it.closed.empty()


async def test_windows_key_without_focus_closes_window_under_pointer(display: object) -> None:
    me, door, yard = Camera(RED), Camera(GREEN), Camera(BLUE)
    async with desk(me, door, yard) as it:
        assert await it.windows.start()
        it.show(LOCAL, "me", me)
        it.show("door", "door", door)
        it.show("yard", "yard", yard)
        await _until(lambda: _share(_screenshot(), GREEN) > 10_000 and _share(_screenshot(), BLUE) > 10_000)
        await _run("xdotool", "mousemove", "--window", await _window("door"), "100", "100", "key", "q")
        assert await it.closed.get() == "door"
        assert it.closed.empty()


async def test_windows_close_button_reports_calls_not_the_preview(display: object) -> None:
    me, door = Camera(RED), Camera(GREEN)
    async with desk(me, door) as it:
        assert await it.windows.start()
        it.show(LOCAL, "me", me)
        it.show("door", "door", door)
        await _until(lambda: _share(_screenshot(), RED) > 10_000)
        _click_close(int(await _window("me")))
        await _until(lambda: _share(_screenshot(), RED) == 0)
        assert me.frames.readers == 0
        _click_close(int(await _window("door")))
        assert await it.closed.get() == "door"
        assert it.closed.empty()


async def test_windows_follow_a_change_of_frame_size(display: object) -> None:
    door = Camera(GREEN, 320, 240)
    async with desk(door) as it:
        assert await it.windows.start()
        it.show("door", "door", door)
        await _window("door 320x240")
        door.width, door.height, door.color = 480, 640, BLUE
        await _window("door 480x640")
        await _until(lambda: _share(_screenshot(), BLUE) > 10_000)


async def test_windows_close_with_their_fanout(display: object) -> None:
    door, yard = Camera(GREEN), Camera(BLUE)
    async with desk(door, yard) as it:
        assert await it.windows.start()
        it.show("door", "door", door)
        await _until(lambda: _share(_screenshot(), GREEN) > 10_000)
        door.frames.close()
        await _until(lambda: _share(_screenshot(), GREEN) == 0)
        it.show("yard", "yard", yard)
        await _until(lambda: _share(_screenshot(), BLUE) > 10_000)
        assert it.closed.empty()


async def test_windows_are_never_black_if_qt_reads_events_late(display: object) -> None:
    """If Xlib drops MapNotify, a window stays black: 16 of 20 without ``leave_events_to_qt``."""
    me, *others = cameras = [Camera(RED), *(Camera((GREEN, BLUE)[n % 2]) for n in range(6))]
    async with desk(*cameras) as it:
        assert await it.windows.start()
        it.show(LOCAL, "me", me)
        _delay_events(int(await _run("xdotool", "getwindowpid", await _window("me 640x360"))))
        for number, camera in enumerate(others):
            it.show(f"door {number}", f"door {number}", camera)
            await _until(lambda camera=camera: _share(_screenshot(), camera.color) > 10_000)
            camera.frames.close()
            await _until(lambda camera=camera: _share(_screenshot(), camera.color) == 0)


async def test_windows_without_descriptor_gives_notice_and_goes_on(display: object) -> None:
    red, green = Camera(RED), Camera(GREEN)
    async with desk(red, green) as it:
        await it.windows.start()
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
        try:
            it.show("door", "door", red)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert await it.notices.get() == "no window for door: Too many open files"
        it.show("gate", "gate", green)
        assert await _window("gate")


async def test_windows_return_after_child_is_killed(display: object) -> None:
    door = Camera(GREEN)
    async with desk(door) as it:
        assert await it.windows.start()
        it.show("door", "door", door)
        window = await _window("door 640x360")
        child = int(await _run("xdotool", "getwindowpid", window))
        os.kill(child, signal.SIGKILL)
        assert "signal 9" in await it.notices.get()
        await _until(lambda: _share(_screenshot(), GREEN) > 10_000)
        assert door.frames.readers == 1


async def test_windows_x_server_death_gives_two_notices(display: XServer) -> None:
    door = Camera(GREEN)
    async with desk(door) as it:
        assert await it.windows.start()
        it.show("door", "door", door)
        await _window("door 640x360")
        display.kill()
        assert "windows have closed" in await it.notices.get()
        assert "display cannot be opened" in await it.notices.get()
        it.windows.hide("door")
        it.show("door", "door", door)
        assert door.frames.readers == 0 and it.notices.empty()


async def test_windows_without_display_gives_one_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    async with desk() as it:
        assert not await it.windows.start()
        assert it.notices.get_nowait() == available()
        assert "DISPLAY" in (available() or "") and it.notices.empty()


async def test_windows_missing_display_is_named_in_notice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9999")
    async with desk() as it:
        assert not await it.windows.start()
        notice = it.notices.get_nowait()
        assert ":9999" in notice and "\n" not in notice and it.notices.empty()


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            "libGL.so.1: cannot open shared object file: No such file or directory",
            "libgl1 libglib2.0-0 libice6 libsm6",
        ),
        ("No module named 'cv2'", "pip install opencv-python"),
    ],
)
async def test_windows_broken_opencv_notice_names_the_packages(
    display: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: str, hint: str
) -> None:
    (tmp_path / "cv2.py").write_text(f"raise ImportError({error!r})\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with desk() as it:
        assert not await it.windows.start()
        notice = it.notices.get_nowait()
        assert hint in notice and error in notice and it.notices.empty()


async def test_windows_qt_plugin_without_libraries_gives_one_notice(
    display: object, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The wheel's plugin without the libraries beside it: Qt would abort the process without naming one."""
    plugin = Path("qt/plugins/platforms/libqxcb.so")
    wheel = Path(str(metadata.distribution("opencv-python").locate_file("cv2")))
    (tmp_path / "cv2" / plugin).parent.mkdir(parents=True)
    (tmp_path / "cv2" / plugin).write_bytes((wheel / plugin).read_bytes())
    (tmp_path / "cv2" / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    async with desk() as it:
        assert not await it.windows.start()
        notice = it.notices.get_nowait()
        assert "libQt5XcbQpa" in notice and "libice6 libsm6" in notice and "\n" not in notice and it.notices.empty()


def test_windows_hint_and_setup_name_the_same_packages() -> None:
    script = (Path(__file__).parents[3] / "setup.sh").read_text()
    assert f'WINDOW_LIBRARIES="{_SYSTEM_LIBRARIES}"' in script


def test_windows_child_loads_no_media_engine(display: object) -> None:
    code = "import sys, peer.media.windows.child; print([m for m in ('av', 'aiortc', 'cv2') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def _delay_events(process: int) -> None:
    """Put all threads of ``process`` on one processor, and run the thread in which Qt reads X only when that is
    idle."""
    tasks = list(Path(f"/proc/{process}/task").iterdir())
    processor = min(os.sched_getaffinity(process))
    for task in tasks:
        os.sched_setaffinity(int(task.name), {processor})
    (reader,) = [int(task.name) for task in tasks if (task / "comm").read_text() == "QXcbEventQueue\n"]
    os.sched_setscheduler(reader, os.SCHED_IDLE, os.sched_param(0))


def _click_close(window: int) -> None:
    """Send what a window manager sends for its close button: WM_DELETE_WINDOW (ICCCM 4.2.8.1)."""
    x11 = ctypes.CDLL("libX11.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    x11.XInternAtom.restype = ctypes.c_ulong
    display = ctypes.c_void_p(x11.XOpenDisplay(None))

    class ClientMessage(ctypes.Structure):
        _fields_ = (
            ("type", ctypes.c_int),
            ("serial", ctypes.c_ulong),
            ("send_event", ctypes.c_int),
            ("display", ctypes.c_void_p),
            ("window", ctypes.c_ulong),
            ("message_type", ctypes.c_ulong),
            ("format", ctypes.c_int),
            ("data", ctypes.c_long * 5),
            ("padding", ctypes.c_long * 12),  # XSendEvent reads a whole XEvent
        )

    protocols, delete = (x11.XInternAtom(display, name, 0) for name in (b"WM_PROTOCOLS", b"WM_DELETE_WINDOW"))
    event = ClientMessage(33, 0, 1, display, window, protocols, 32, (ctypes.c_long * 5)(delete))
    x11.XSendEvent(display, ctypes.c_ulong(window), 0, ctypes.c_long(0), ctypes.byref(event))
    x11.XCloseDisplay(display)
