"""Where the recordings and snapshots of a command's calls go: a file a call, no earlier call overwritten."""

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


class Files:
    """``record`` and ``snapshot`` as the user gave them: a path, one with ``{peer}`` and ``{time}``, or a folder.

    When ``several`` calls can come, a path that has no place for the peer gets its id before the suffix, and a name
    that is taken gets a number. A folder is one that exists, or ends in a slash. With ``segment`` seconds a
    recording has many files: their ``{time}`` or number is filled in as they begin, by ``Call.record``.

    The disk is asked, so nothing here belongs into the event loop; it may be called from several threads.
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
    def records(self) -> bool:
        """Whether calls are to be recorded."""
        return self._record is not None

    @property
    def pictures(self) -> bool:
        """Whether there is to be a snapshot of each call."""
        return self._snapshot is not None

    def check(self) -> None:
        """Find out now what would go wrong at the first call.

        Raises:
            MediaError: the folder cannot be written, the file is there already, the pattern is wrong, or no
                recording or picture ends like that.
        """
        if (pattern := self._record) is not None:
            path = self._writable(pattern, ".mkv")
            if path.suffix.lower() not in suffixes().split(", "):
                has = path.suffix or "nothing"
                raise MediaError(pattern, f"no recording ends in {has}", f"there are {suffixes()}")
            if not self._several and self.segment is None and _ask(pattern, path.exists):
                raise MediaError(pattern, "exists already", "move it away, or put {time} into the name")
        if (pattern := self._snapshot) is not None:
            check_path(self._writable(pattern, ".png"))

    def recording(self, peer: str) -> str:
        """The path of the next recording of ``peer``; of its segments, the pattern.

        Raises:
            MediaError: the disk does not say whether a name is free, or cannot have such a name.
        """
        assert self._record is not None, "nothing is recorded"
        pattern = self._record
        if self.segment is not None:
            return _ask(pattern, lambda: str(self._path(pattern, peer, ".mkv", now=None)))
        return _ask(pattern, lambda: self._next(pattern, peer, ".mkv"))

    def picture(self, peer: str) -> str:
        """The path of the next snapshot of ``peer``.

        Raises:
            MediaError: as ``recording``.
        """
        assert self._snapshot is not None, "there are no snapshots"
        pattern = self._snapshot
        return _ask(pattern, lambda: self._next(pattern, peer, ".png"))

    def _writable(self, pattern: str, suffix: str) -> Path:
        path = _ask(pattern, lambda: self._path(pattern, "peer", suffix, now=datetime.now()))
        folder = _ask(pattern, lambda: next(folder for folder in path.absolute().parents if folder.exists()))
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
        with self._lock:  # never held while the disk is asked
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
    """Make a file in ``folder`` and let it go: what permissions say is not what /proc or a read-only disk does.

    Raises:
        MediaError: none can be made there, for what the user called ``pattern``.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        raise MediaError(pattern, f"{folder} cannot be written", hint) from None


def _ask(pattern: str, disk: Callable[[], T]) -> T:
    """What ``disk`` says; an error of the disk is one of ``pattern``, as any other of a recording."""
    try:
        return disk()
    except OSError as error:
        raise MediaError(pattern, error.strerror or str(error)) from None
    except (RuntimeError, ValueError) as error:  # no home folder, a NUL in the name
        raise MediaError(pattern, str(error)) from None
