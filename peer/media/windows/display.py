"""What OpenCV lacks on an X display: the screen size, the window with the keyboard focus, and two fixes for its Qt.

``cv2.waitKey`` reports which key was pressed but not in which window, and a ``q`` must hang up only the call of the
focused window. libX11 comes with libGL, which OpenCV needs anyway. For the child process only: imports only the
standard library.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_uint, c_ulong, c_void_p
from pathlib import Path
from typing import Any, Final

_POINTER_ROOT: Final = 1
"""XGetInputFocus without a window manager: no window has the focus, and keys go to the one under the pointer."""

_on_error_type = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p)
# Xlib's default handler ends the process. A global, because Xlib keeps a pointer to it.
_ignore_error = _on_error_type(lambda display, event: 0)


def leave_events_to_qt() -> None:
    """Load the libX11-xcb that belongs to the installed libX11, for Qt to use. Call it before ``import cv2``.

    Qt reads the X connection in a thread, and for that stops Xlib from reading events (``XSetEventQueueOwner``). This
    function of libX11-xcb writes to a private structure of libX11. The opencv-python wheel contains its own
    libX11-xcb but uses the system's libX11, and they disagree: opencv-python 5.0 writes at 0x40, libX11 1.8.4 has the
    field at 0x48. Xlib then goes on reading events, and drops those that it reads before the thread does.

    A window whose MapNotify is lost is never exposed to Qt, and stays black whatever is painted later: 24 of 120
    windows with busy processors, none of 180 with this fix. Any other event can be lost the same way.
    """
    try:
        ctypes.CDLL("libX11-xcb.so.1", ctypes.RTLD_GLOBAL)  # global, so that it is found before the wheel's own
    except OSError:
        pass  # it comes with libGL; without it, a window may stay black


def load_qt_plugin(opencv: Path) -> None:
    """Load the X plugin of the Qt in the OpenCV wheel at ``opencv``, if there is one.

    Qt would load it with the first window, and abort the process without naming a library that is missing (libSM on a
    machine without a desktop).

    Raises:
        OSError: a library is missing; the message names it.
    """
    plugin = opencv / "qt" / "plugins" / "platforms" / "libqxcb.so"
    if plugin.exists():
        ctypes.CDLL(str(plugin))


class Display:
    """A connection of our own to the display that ``DISPLAY`` names.

    Raises:
        OSError: libX11 is not installed.
        ConnectionError: the display does not exist, or denies access.
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
        """Return the titles of the window with the keyboard focus and of its ancestors, innermost first."""
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
        coordinates = [byref(number)] * 4
        self._x11.XQueryPointer(self._display, root, byref(ignored), byref(window), *coordinates, byref(mask))
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
