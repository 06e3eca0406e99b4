"""The child process that shows the windows: ``python -m peer.media.windows.child FD``.

It imports cv2, numpy and no other large library. If PyAV was imported first, ``imshow`` hangs forever (measured, 4 of
4 times). Without a display it aborts the process, and its import stalls an event loop for 0.2 s.

``FD`` is a stream socket to the parent. Both sides send one JSON object per line:

    parent                                   child
    {"op": "show", "id", "title"} + memory   {"event": "ready", "width", "height"}     size of the screen
    {"op": "hide", "id"}                     {"event": "failed", "why"}                the child ends
                                             {"event": "size", "id", "width", "height"}  of a window's content
                                             {"event": "close", "id"}                  by q, Esc or close button

The descriptor of a window's shared memory (``shared_memory``) is attached to the first byte of its ``show``. The
child ends when the socket is closed.
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
from peer.media.windows.shared_memory import SharedFrame, SharedFrameReader

_POLL_MS: Final = 8
"""Interval between checks for new frames, in milliseconds: half of a 60 Hz refresh. Qt handles events in between."""

_CLOSE_KEYS: Final = (ord("q"), ord("Q"), 27)

_TITLE_BAR: Final = 32
"""Assumed height of a title bar, in pixels."""

_COLUMNS: Final = 3
"""Windows per row of the grid."""

_FALLBACK_SCREEN: Final = (1280, 720)
"""Assumed size of the screen if it cannot be queried, in pixels."""


class _Window:
    """One window on the screen, at position ``position`` of the grid, at first no larger than ``box``."""

    def __init__(
        self, cv2: Any, key: str, title: str, memory: SharedFrameReader, position: int, box: tuple[int, int]
    ) -> None:
        self._cv2 = cv2
        self.key = key
        self._title = title
        self._handle = f"{position}:{key}"
        self.memory = memory
        self.position = position
        self._box = box
        self._source_size = (0, 0)
        self._title_updated = 0.0
        self.content_size: tuple[int, int] = (0, 0)
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(self._handle, flags)
        cv2.setWindowTitle(self._handle, title)
        cv2.imshow(self._handle, np.full((box[1], box[0], 3), 32, np.uint8))
        cv2.resizeWindow(self._handle, *box)

    def move(self, x: int, y: int) -> None:
        self._cv2.moveWindow(self._handle, x, y)

    def paint(self, frame: SharedFrame) -> None:
        """Show ``frame``. Resize the window for a new source size; once per second, update size and rate in the
        title."""
        width, height = frame.source_width, frame.source_height
        if (width, height) != self._source_size:
            self._source_size = (width, height)
            scale = min(self._box[0] / width, self._box[1] / height)
            self._cv2.resizeWindow(self._handle, max(round(width * scale), 1), max(round(height * scale), 1))
            self._title_updated = 0.0
        self._cv2.imshow(self._handle, frame.pixels)
        if time.monotonic() - self._title_updated >= 1:
            self._title_updated = time.monotonic()
            title = f"{self._title} {width}x{height} {frame.fps:.0f} fps"
            self._cv2.setWindowTitle(self._handle, title)

    def has_title(self, title: str) -> bool:
        """Whether ``title`` is this window's, with or without size and frame rate."""
        return title == self._title or title.startswith(self._title + " ")

    def update_size(self) -> bool:
        """Update ``content_size``. Return whether it has changed."""
        try:
            size = tuple(self._cv2.getWindowImageRect(self._handle)[2:])
        except self._cv2.error:
            return False
        changed = min(size) > 0 and size != self.content_size
        if changed:
            self.content_size = size
        return changed

    def is_open(self) -> bool:
        """Whether the user has not closed the window. OpenCV raises an error when it was the last one."""
        try:
            return bool(self._cv2.getWindowProperty(self._handle, self._cv2.WND_PROP_VISIBLE) >= 1)
        except self._cv2.error:
            return False

    def close(self) -> None:
        self.memory.close()
        try:
            self._cv2.destroyWindow(self._handle)
        except self._cv2.error:
            pass  # the user has closed it


class _Screen:
    """All windows, and the socket through which the parent controls them."""

    def __init__(self, cv2: Any, control: socket.socket, display: Display | None) -> None:
        self._cv2 = cv2
        self._control = control
        self._display = display
        self._windows: dict[str, _Window] = {}
        self._pending = b""
        self._descriptors: deque[int] = deque()
        self.size = (display.width, display.height) if display is not None else _FALLBACK_SCREEN

    def run(self) -> None:
        """Run until the parent closes the socket."""
        while self._receive(None if not self._windows else 0):
            for window in list(self._windows.values()):
                frame = window.memory.read()
                if frame is not None:
                    window.paint(frame)
            if not self._windows:
                continue
            key = self._cv2.waitKey(_POLL_MS)
            if key != -1 and key & 0xFF in _CLOSE_KEYS:
                self._close(self._focused())
            for window in list(self._windows.values()):
                if not window.is_open():
                    self._close(window)
                elif window.update_size():
                    _send(
                        self._control,
                        event="size",
                        id=window.key,
                        width=window.content_size[0],
                        height=window.content_size[1],
                    )

    def _receive(self, timeout: float | None) -> bool:
        """Handle the parent's messages, waiting up to ``timeout`` seconds. Return False if the socket is closed."""
        while select.select([self._control], [], [], timeout)[0]:
            data, descriptors, _, _ = socket.recv_fds(self._control, 65536, 16)
            if not data:
                return False
            self._descriptors.extend(descriptors)
            *lines, self._pending = (self._pending + data).split(b"\n")
            for line in lines:
                self._handle(json.loads(line))
            timeout = 0
        return True

    def _handle(self, message: dict[str, str]) -> None:
        key = message["id"]
        if key in self._windows:
            self._windows.pop(key).close()
        if message["op"] == "show":
            self._open(key, message["title"], SharedFrameReader(self._descriptors.popleft()))

    def _open(self, key: str, title: str, memory: SharedFrameReader) -> None:
        """Open a window at the first free position of a grid; when the grid is full, offset from the others."""
        taken = {window.position for window in self._windows.values()}
        position = next(number for number in range(len(taken) + 1) if number not in taken)
        width = self.size[0] // _COLUMNS
        height = width * 9 // 16
        rows = max(self.size[1] // (height + _TITLE_BAR), 1)
        page, cell = divmod(position, _COLUMNS * rows)
        row, column = divmod(cell, _COLUMNS)
        window = _Window(self._cv2, key, title, memory, position, (width, height))
        # Some window managers position the frame, others the content. The title bar must be on the screen either way.
        window.move(column * width + 24 * page, row * (height + _TITLE_BAR) + _TITLE_BAR + 24 * page)
        self._windows[key] = window

    def _focused(self) -> _Window:
        """Return the window that has the keyboard focus, or the newest if that cannot be determined."""
        titles = self._display.focused_titles() if self._display is not None else []
        for window in self._windows.values():
            if any(window.has_title(title) for title in titles):
                return window
        return list(self._windows.values())[-1]

    def _close(self, window: _Window) -> None:
        self._windows.pop(window.key).close()
        _send(self._control, event="close", id=window.key)


def _send(control: socket.socket, **message: str | int) -> None:
    control.sendall(json.dumps(message).encode() + b"\n")


def main(fd: int) -> int:
    """Run until the parent ends. Return exit code 1 after a ``failed`` event, if windows cannot work."""
    with socket.socket(fileno=fd) as control:
        return _run(control)


def _run(control: socket.socket) -> int:
    try:
        display = _open_display()
        import cv2

        load_qt_plugin(Path(cv2.__file__).parent)
    except (ImportError, OSError) as exc:
        _send(control, event="failed", why=str(exc))
        return 1
    screen = _Screen(cv2, control, display)
    _send(control, event="ready", width=screen.size[0], height=screen.size[1])
    try:
        screen.run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the parent is gone
    except cv2.error as exc:  # opencv-python-headless: "The function is not implemented"
        _send(control, event="failed", why=str(exc.err))
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
        return None  # no libX11: the import of cv2 will name the missing library


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
