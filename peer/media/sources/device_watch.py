"""Watch on the devices in /dev: plugged in, unplugged, or with other permissions.

inotify(7) on the folders of /dev only tells when to scan. What counts is the difference between two scans, so missed
and duplicate events do no harm. A machine without inotify, or with its watches used up, is scanned every second.

Must never: open a device.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from peer.media.sources.camera_nodes import DEV

_FOLDERS: Final = ("", "snd", "v4l", "v4l/by-id", "v4l/by-path")
"""Folders with devices and links to them, below /dev. Those that do not exist yet are watched once they do."""

_EVENTS: Final = 0x4 | 0x40 | 0x80 | 0x100 | 0x200
"""IN_ATTRIB, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE (linux/inotify.h)."""

_POLL_INTERVAL: Final = 1.0
"""Time between two scans without inotify, in seconds."""

_SAFETY_INTERVAL: Final = 30.0
"""Time between two scans with inotify, in seconds, for changes that it does not report."""

_SETTLE_TIME: Final = 0.1
"""Time between an event and the scan, in seconds. udev needs some 50 ms to set permissions and links, and a device
causes a dozen events."""

Devices = frozenset[tuple[str, int, int, int]]
"""Path below /dev, device number, mode and group of each device node."""


class DeviceWatch:
    """A watch that calls ``on_change()`` in the event loop: once at first, then after each change of the devices
    below ``dev``."""

    def __init__(self, on_change: Callable[[], None], dev: Path = DEV) -> None:
        self._on_change = on_change
        self._dev = dev
        self._event = asyncio.Event()
        self._inotify: _Inotify | None = None

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):
                self._inotify = stack.enter_context(_Inotify())
                loop.add_reader(self._inotify.descriptor, self._on_readable)
                stack.callback(loop.remove_reader, self._inotify.descriptor)
            before: Devices | None = None  # a device may have come since the sources were opened
            while True:
                now = self._look()
                if now != before:
                    before = now
                    self._on_change()
                await self._wait()

    async def _wait(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_POLL_INTERVAL if self._inotify is None else _SAFETY_INTERVAL):
                await self._event.wait()
            await asyncio.sleep(_SETTLE_TIME)
        self._event.clear()

    def _on_readable(self) -> None:
        if self._inotify is not None:
            self._inotify.drain()
        self._event.set()

    def _look(self) -> Devices:
        """Return the devices of now. The folders are watched before they are read, so that no change is missed."""
        found: set[tuple[str, int, int, int]] = set()
        for name in _FOLDERS:
            folder = self._dev / name
            if self._inotify is not None:
                self._inotify.add(folder)
            with contextlib.suppress(OSError):
                for entry in os.scandir(folder):
                    if name or entry.name.startswith("video"):
                        found.update(_device(f"{name}/{entry.name}", entry))
        return frozenset(found)


def _device(path: str, entry: os.DirEntry[str]) -> Devices:
    try:
        status = entry.stat()
    except OSError:  # gone, or a link that leads nowhere
        return frozenset()
    if stat.S_ISDIR(status.st_mode):
        return frozenset()
    return frozenset({(path, status.st_rdev, status.st_mode, status.st_gid)})


class _Inotify:
    """An inotify instance. Python has no module for it; the C library has the three calls.

    Raises:
        OSError: the system has none, or its limit is reached.
    """

    def __init__(self) -> None:
        self._libc: Any = ctypes.CDLL(None, use_errno=True)
        init = getattr(self._libc, "inotify_init1", None)
        self.descriptor: int = init(os.O_NONBLOCK | os.O_CLOEXEC) if init is not None else -1
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")

    def add(self, folder: Path) -> None:
        """Watch ``folder``, if it exists. A folder that is watched already stays so."""
        self._libc.inotify_add_watch(self.descriptor, os.fsencode(folder), _EVENTS)

    def drain(self) -> None:
        """Discard all events that have arrived."""
        with contextlib.suppress(BlockingIOError):
            while os.read(self.descriptor, 65_536):
                pass

    def __enter__(self) -> _Inotify:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.descriptor)
