"""Paths of the recordings and snapshots of a command's calls. No call overwrites the recording of another one."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from ..errors import MediaError
from ..media.path_template import expand
from ..media.recording.muxer import suffixes
from ..media.snapshot import check_path

T = TypeVar("T")


class SinkPaths:
    """Paths made from the values of ``--record`` and ``--snapshot``.

    Each value is a path, which may contain ``{peer}`` and ``{time}``, or a folder, which exists or ends in a slash.

    If there can be ``several`` calls, a path without ``{peer}`` gets the id before its suffix, and a path that is
    taken gets a number. With ``segment`` (seconds), a recording consists of several files, and ``Call.record`` fills
    in the time or the number of each.

    The methods access the disk: call them in a thread. They are thread-safe.
    """

    def __init__(
        self, record: str | None, snapshot: str | None, *, several: bool, segment: float | None = None
    ) -> None:
        self._record = None if record is None else os.path.expanduser(record)
        self._snapshot = None if snapshot is None else os.path.expanduser(snapshot)
        self._several = several
        self.segment = segment
        self._used: set[Path] = set()
        self._lock = threading.Lock()

    @property
    def recorded(self) -> bool:
        """Whether each call is recorded."""
        return self._record is not None

    @property
    def snapshots(self) -> bool:
        """Whether each call gets a snapshot."""
        return self._snapshot is not None

    def check(self) -> None:
        """Check both values before the first call.

        Raises:
            MediaError: the folder is not writable, the recording exists already, a placeholder is unknown, or the
                suffix is not that of a supported format.
        """
        if (pattern := self._record) is not None:
            path = self._writable(pattern, ".mkv")
            if path.suffix.lower() not in suffixes().split(", "):
                raise MediaError(
                    pattern, f"cannot record to a file with {path.suffix or 'no'} suffix", f"use {suffixes()}"
                )
            if not self._several and self.segment is None and _disk(pattern, path.exists):
                raise MediaError(pattern, "the file exists", "move it away, or put {time} into the name")
        if (pattern := self._snapshot) is not None:
            check_path(self._writable(pattern, ".png"))

    def recording(self, peer: str) -> str:
        """Path of the next recording of ``peer``; for segments, the pattern of their paths.

        Raises:
            MediaError: the disk fails, or rejects the name.
        """
        assert self._record is not None, "calls are not recorded"
        pattern = self._record
        if self.segment is not None:
            return _disk(pattern, lambda: str(self._path(pattern, peer, ".mkv", now=None)))
        return _disk(pattern, lambda: self._next(pattern, peer, ".mkv"))

    def snapshot(self, peer: str) -> str:
        """Path of the next snapshot of ``peer``.

        Raises:
            MediaError: the disk fails, or rejects the name.
        """
        assert self._snapshot is not None, "calls get no snapshots"
        pattern = self._snapshot
        return _disk(pattern, lambda: self._next(pattern, peer, ".png"))

    def _writable(self, pattern: str, suffix: str) -> Path:
        path = _disk(pattern, lambda: self._path(pattern, "peer", suffix, now=datetime.now()))
        folder = _disk(pattern, lambda: next(folder for folder in path.absolute().parents if folder.exists()))
        check_folder(pattern, folder)
        return path

    def _next(self, pattern: str, peer: str, suffix: str) -> str:
        path = first = self._path(pattern, peer, suffix, now=datetime.now())
        number = 2
        while (self._several and path.exists()) or not self._claim(path):
            path = first.with_name(f"{first.stem}-{number}{first.suffix}")
            number += 1
        return str(path)

    def _claim(self, path: Path) -> bool:
        with self._lock:  # never held during disk access
            if path in self._used:
                return False
            self._used.add(path)
            return True

    def _path(self, pattern: str, peer: str, suffix: str, *, now: datetime | None) -> Path:
        if pattern.endswith("/") or os.path.isdir(pattern):
            pattern = os.path.join(pattern, "{peer}-{time}" + suffix)
        elif self._several and "{peer}" not in pattern:
            stem, extension = os.path.splitext(pattern)
            pattern = stem + "-{peer}" + extension
        return expand(pattern, peer=peer, now=now)


def check_folder(pattern: str, folder: Path, hint: str = "try another path") -> None:
    """Check that ``folder`` is writable by creating a temporary file: in /proc, permissions alone are misleading.

    Raises:
        MediaError: it is not; ``pattern`` is the path that the user gave.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        raise MediaError(pattern, f"cannot write to {folder}", hint) from None


def _disk(pattern: str, access: Callable[[], T]) -> T:
    """Return ``access()``, with the errors of the disk translated into a ``MediaError`` of ``pattern``."""
    try:
        return access()
    except OSError as error:
        raise MediaError(pattern, error.strerror or str(error)) from None
    except (RuntimeError, ValueError) as error:  # no home folder, or a NUL in the name
        raise MediaError(pattern, str(error)) from None
