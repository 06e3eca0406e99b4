"""The process that has the windows: ``python -m peer.media.windows.child FD``.

It imports cv2 and numpy and nothing heavy besides: ``imshow`` hangs for ever once PyAV was imported first (measured,
4 of 4), aborts the process without a display, and stalls an event loop by 0.2 s.

``FD`` is a stream socket to the parent, one JSON object a line each way:

    parent                                   child
    {"op": "show", "id", "title"} + memory   {"event": "ready", "width", "height"}     of the screen
    {"op": "hide", "id"}                     {"event": "failed", "why"}                and it is gone
                                             {"event": "size", "id", "width", "height"}  of the window's inside
                                             {"event": "close", "id"}                  q, Esc or the close button

The descriptor of a window's shared memory (memory.py) travels with the first octet of its ``show``. The end
of the socket ends the process.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import numpy as np

from peer.media.windows.display import Display, leave_events_to_qt, load_qt_plugin
from peer.media.windows.shared_memory import Picture, SharedFrameReader

_LOOK_MS: Final = 8
"""How often new pictures are looked for: half of a 60 Hz refresh. Qt handles its events meanwhile."""

_KEYS_THAT_CLOSE: Final = (ord("q"), ord("Q"), 27)

_TITLE_BAR: Final = 32
_COLUMNS: Final = 3
_FALLBACK_SCREEN: Final = (1280, 720)


class _Window:
    """One window on the screen, at place ``place`` of the grid."""

    def __init__(
        self, cv2: Any, key: str, title: str, memory: SharedFrameReader, place: int, box: tuple[int, int]
    ) -> None:
        self._cv2 = cv2
        self.key = key
        self._title = title
        self._handle = f"{place}:{key}"
        self.memory = memory
        self.place = place
        self._box = box
        self._shape: tuple[int, ...] = ()
        self._titled = 0.0
        self.rect: tuple[int, int] = (0, 0)
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(self._handle, flags)
        cv2.setWindowTitle(self._handle, title)
        cv2.imshow(self._handle, np.full((box[1], box[0], 3), 32, np.uint8))
        cv2.resizeWindow(self._handle, *box)

    def move(self, x: int, y: int) -> None:
        self._cv2.moveWindow(self._handle, x, y)

    def paint(self, picture: Picture) -> None:
        """Show ``picture``; a new shape fits the window to it, once a second the title says size and fps."""
        height, width = picture.source_height, picture.source_width
        if (width, height) != self._shape:
            self._shape = (width, height)
            scale = min(self._box[0] / width, self._box[1] / height)
            self._cv2.resizeWindow(self._handle, max(round(width * scale), 1), max(round(height * scale), 1))
            self._titled = 0.0
        self._cv2.imshow(self._handle, picture.pixels)
        if time.monotonic() - self._titled >= 1:
            self._titled = time.monotonic()
            title = f"{self._title} {width}x{height} {picture.fps:.0f} fps"
            self._cv2.setWindowTitle(self._handle, title)

    def is_called(self, title: str) -> bool:
        """Whether a title bar that says ``title`` is ours, now or a moment ago."""
        return title == self._title or title.startswith(self._title + " ")

    def resized(self) -> bool:
        """Whether the inside has another size than before; ``rect`` holds it."""
        try:
            rect = tuple(self._cv2.getWindowImageRect(self._handle)[2:])
        except self._cv2.error:
            return False
        changed = min(rect) > 0 and rect != self.rect
        if changed:
            self.rect = rect
        return changed

    def is_open(self) -> bool:
        """False once the user closed it. OpenCV raises for the last window instead of answering."""
        try:
            return bool(self._cv2.getWindowProperty(self._handle, self._cv2.WND_PROP_VISIBLE) >= 1)
        except self._cv2.error:
            return False

    def close(self) -> None:
        self.memory.close()
        try:
            self._cv2.destroyWindow(self._handle)
        except self._cv2.error:
            pass  # the user was faster


class _Screen:
    """All windows, and the socket that says which there are."""

    def __init__(self, cv2: Any, control: socket.socket, display: Display | None) -> None:
        self._cv2 = cv2
        self._control = control
        self._display = display
        self._windows: dict[str, _Window] = {}
        self._pending = b""
        self._descriptors: deque[int] = deque()
        self.size = (display.width, display.height) if display is not None else _FALLBACK_SCREEN

    def run(self) -> None:
        """Until the parent closes the socket."""
        while self._obey(None if not self._windows else 0):
            for window in list(self._windows.values()):
                picture = window.memory.read()
                if picture is not None:
                    window.paint(picture)
            if not self._windows:
                continue
            key = self._cv2.waitKey(_LOOK_MS)
            if key != -1 and key & 0xFF in _KEYS_THAT_CLOSE:
                self._close(self._focused())
            for window in list(self._windows.values()):
                if not window.is_open():
                    self._close(window)
                elif window.resized():
                    _say(self._control, event="size", id=window.key, width=window.rect[0], height=window.rect[1])

    def _obey(self, timeout: float | None) -> bool:
        """Do what the parent has asked for; False when it is gone."""
        while select.select([self._control], [], [], timeout)[0]:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65536, 16)
            if not data:
                return False
            self._descriptors.extend(descriptors)
            *lines, self._pending = (self._pending + data).split(b"\n")
            for line in lines:
                self._do(json.loads(line))
            timeout = 0
        return True

    def _do(self, message: dict[str, str]) -> None:
        key = message["id"]
        if key in self._windows:
            self._windows.pop(key).close()
        if message["op"] == "show":
            self._open(key, message["title"], SharedFrameReader(self._descriptors.popleft()))

    def _open(self, key: str, title: str, memory: SharedFrameReader) -> None:
        """In the first free place of a grid; when all are taken, a little beside the others."""
        taken = {window.place for window in self._windows.values()}
        place = next(n for n in range(len(taken) + 1) if n not in taken)
        width = self.size[0] // _COLUMNS
        height = width * 9 // 16
        rows = max(self.size[1] // (height + _TITLE_BAR), 1)
        page, cell = divmod(place, _COLUMNS * rows)
        row, column = divmod(cell, _COLUMNS)
        window = _Window(self._cv2, key, title, memory, place, (width, height))
        # Some window managers count from the frame, others from the inside: the title bar must be on the screen.
        window.move(column * width + 24 * page, row * (height + _TITLE_BAR) + _TITLE_BAR + 24 * page)
        self._windows[key] = window

    def _focused(self) -> _Window:
        """The window that the key was meant for; where nobody can tell, the newest."""
        titles = self._display.focused_titles() if self._display is not None else []
        for window in self._windows.values():
            if any(window.is_called(title) for title in titles):
                return window
        return list(self._windows.values())[-1]

    def _close(self, window: _Window) -> None:
        self._windows.pop(window.key).close()
        _say(self._control, event="close", id=window.key)


def _say(control: socket.socket, **message: str | int) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def main(fd: int) -> int:
    """Run until the parent ends. Exit code 1 when there can be no windows; the reason was said before."""
    control = socket.socket(fileno=fd)
    try:
        display = _open_display()
        import cv2

        load_qt_plugin(Path(cv2.__file__).parent)
    except (ImportError, OSError) as exc:
        _say(control, event="failed", why=str(exc))
        return 1
    screen = _Screen(cv2, control, display)
    _say(control, event="ready", width=screen.size[0], height=screen.size[1])
    try:
        screen.run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    except cv2.error as exc:  # opencv-python-headless: "The function is not implemented"
        _say(control, event="failed", why=str(exc.err))
        return 1
    return 0


def _open_display() -> Display | None:
    if not sys.platform.startswith("linux"):
        return None
    leave_events_to_qt()
    name = os.environ.get("DISPLAY", "")
    try:
        return Display()
    except ConnectionError as exc:
        raise ConnectionError(f"{exc} (DISPLAY={name})") from None
    except OSError:
        return None  # no libX11: import cv2 will say which library is missing


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
