"""What OpenCV does not tell about the X display: its size, and which window has the keyboard; and Qt's events.

``cv2.waitKey`` says which key was pressed, not where; a ``q`` must hang up the call one looks at, and no other.
libX11 comes with libGL, which OpenCV needs anyway. For the windows' process only: standard library only.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_ulong, c_void_p
from pathlib import Path
from typing import Any, Final

_POINTER_ROOT: Final = 1
"""XGetInputFocus: no window has the focus, keys go to the one under the pointer (no window manager)."""

_on_error_type = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
_ignore_error = _on_error_type(lambda display, event: 0)  # Xlib's own ends the process; kept alive, Xlib calls it


def leave_events_to_qt() -> None:
    """Load the libX11-xcb that belongs to the installed libX11, for Qt to use. Call it before ``import cv2``.

    Qt reads the X connection in a thread and tells Xlib to keep off, by ``XSetEventQueueOwner``. That is a function
    of libX11-xcb that writes into a structure private to libX11. The wheel of opencv-python brings its own of the one
    and uses the system's other: opencv-python 5.0 writes at 0x40, in libX11 1.8.4 the field is at 0x48. So Xlib
    believes that events are its own, and swallows those that it meets before the thread does. A window whose
    MapNotify is lost is not exposed to Qt, and black for ever, whatever is painted, resized or exposed later: 24 of
    120 with the processors busy, none of 180 with this. Any other event can be lost the same way.
    """
    try:
        ctypes.CDLL("libX11-xcb.so.1", ctypes.RTLD_GLOBAL)  # global: found before the wheel's own
    except OSError:
        pass  # it comes with libGL; without it the windows are as good as OpenCV's are


def load_qt_plugin(opencv: Path) -> None:
    """Load the X plugin of the Qt in the OpenCV wheel at ``opencv``, if there is one.

    Qt loads it with the first window. If one of its libraries is missing (libSM on a machine without a desktop), Qt
    then aborts the process without naming the library.

    Raises:
        OSError: a library is missing; the message has its name.
    """
    plugin = opencv / "qt" / "plugins" / "platforms" / "libqxcb.so"
    if plugin.exists():
        ctypes.CDLL(str(plugin))


class Display:
    """A connection of our own to the display in ``DISPLAY``.

    Raises:
        OSError: libX11 is not installed.
        ConnectionError: no such display, or it does not let us in.
    """

    def __init__(self) -> None:
        x11: Any = ctypes.CDLL("libX11.so.6")
        x11.XOpenDisplay.restype = c_void_p
        x11.XDefaultRootWindow.restype = c_ulong
        x11.XDefaultRootWindow.argtypes = [c_void_p]
        x11.XDisplayWidth.argtypes = x11.XDisplayHeight.argtypes = [c_void_p, c_int]
        x11.XGetInputFocus.argtypes = [c_void_p, POINTER(c_ulong), POINTER(c_int)]
        x11.XQueryPointer.argtypes = [
            *(c_void_p, c_ulong, POINTER(c_ulong), POINTER(c_ulong)),
            *([POINTER(c_int)] * 4),
            POINTER(c_uint),
        ]
        x11.XQueryTree.argtypes = [
            *(c_void_p, c_ulong, POINTER(c_ulong), POINTER(c_ulong)),
            *(POINTER(POINTER(c_ulong)), POINTER(c_uint)),
        ]
        x11.XFetchName.argtypes = [c_void_p, c_ulong, POINTER(c_char_p)]
        x11.XFree.argtypes = [c_void_p]
        x11.XSetErrorHandler(_ignore_error)
        self._x11 = x11
        self._display = x11.XOpenDisplay(None)
        if not self._display:
            raise ConnectionError("the display cannot be opened")
        self.width: int = x11.XDisplayWidth(self._display, 0)
        self.height: int = x11.XDisplayHeight(self._display, 0)

    def focused_titles(self) -> list[str]:
        """Titles of the window that has the keyboard and of those around it, innermost first."""
        window, revert = c_ulong(), c_int()
        self._x11.XGetInputFocus(self._display, byref(window), byref(revert))
        titles: list[str] = []
        root: int = self._x11.XDefaultRootWindow(self._display)
        if window.value == _POINTER_ROOT:
            window = self._under_pointer(root)
        while window.value and window.value != root:
            name = c_char_p()
            if self._x11.XFetchName(self._display, window, byref(name)) and name.value is not None:
                titles.append(name.value.decode("utf-8", "replace"))
                self._x11.XFree(name)
            parent = self._parent(window)
            if parent is None:
                break
            window = parent
        return titles

    def _under_pointer(self, root: int) -> c_ulong:
        window, ignored, number, mask = c_ulong(), c_ulong(), c_int(), c_uint()
        where = [byref(number)] * 4
        self._x11.XQueryPointer(self._display, root, byref(ignored), byref(window), *where, byref(mask))
        return window

    def _parent(self, window: c_ulong) -> c_ulong | None:
        root, parent, count = c_ulong(), c_ulong(), c_uint()
        children = POINTER(c_ulong)()
        found = self._x11.XQueryTree(self._display, window, byref(root), byref(parent), byref(children), byref(count))
        if not found:
            return None
        if children:
            self._x11.XFree(children)
        return parent
