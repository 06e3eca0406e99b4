"""What the files of one recording are called, one after the other. Blocking: it looks into folders.

Without segments the first file has the name that was asked for, and one that has to follow it (reel.py says
when) a number: ``door.mkv``, ``door-2.mkv``. With segments each file has the time it begins at where ``{time}``
stands, else a number of four digits: ``door-0001.mkv``, going on behind those that are there. No name is given
twice, and none that is taken.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from ...errors import MediaError
from ..path_template import fill
from .muxer import RecordingFile, check_suffix

_TRIES: Final = 1000
"""Names that may be taken in a row: so many recordings within one second are a mistake."""


Names: TypeAlias = "SinglePath | SegmentPaths"


class SinglePath:
    """``path`` as it is, then numbered."""

    def __init__(self, path: Path) -> None:
        check_suffix(path)
        self._path = path
        self._next = 1

    def __str__(self) -> str:
        return str(self._path)

    def create(self) -> RecordingFile:
        """The next file.

        Raises:
            MediaError: it cannot be made, or the first one exists.
        """
        if self._next > 1:
            return _first_free(self._numbered(), str(self._path))
        file = _first_free(iter([self._path]), str(self._path))
        self._next = 2
        return file

    def _numbered(self) -> Iterator[Path]:
        while True:
            self._next += 1
            yield self._path.with_name(f"{self._path.stem}-{self._next - 1}{self._path.suffix}")


class SegmentPaths:
    """``pattern`` with ``{peer}``, and ``{time}`` or else a number, filled in.

    Raises:
        MediaError: another placeholder, or a suffix that is none of a recording.
    """

    def __init__(self, pattern: str, peer: str) -> None:
        self._pattern = str(fill(pattern, peer=peer, now=None))
        check_suffix(Path(self._pattern))
        self._next: int | None = None

    def __str__(self) -> str:
        return self._pattern

    def create(self) -> RecordingFile:
        """The next file.

        Raises:
            MediaError: it cannot be made.
        """
        return _first_free(self._timed() if "{time}" in self._pattern else self._numbered(), self._pattern)

    def _timed(self) -> Iterator[Path]:
        path = fill(self._pattern, peer="", now=datetime.now())
        yield path
        for number in itertools.count(2):
            yield path.with_name(f"{path.stem}-{number}{path.suffix}")

    def _numbered(self) -> Iterator[Path]:
        path = Path(self._pattern)
        if self._next is None:
            self._next = _highest(path) + 1
        while True:
            self._next += 1
            yield path.with_name(f"{path.stem}-{self._next - 1:04}{path.suffix}")


def _highest(path: Path) -> int:
    """The highest number that a file has behind ``path``'s stem; 0 if there is none."""
    number = re.compile(re.escape(path.stem) + r"-(\d{4,9})" + re.escape(path.suffix))
    try:
        with os.scandir(path.parent) as entries:
            found = (number.fullmatch(entry.name) for entry in entries)
            return max((int(match[1]) for match in found if match is not None), default=0)
    except OSError:  # there is no such folder yet; what else is wrong with it, making the file says
        return 0


def _first_free(paths: Iterator[Path], wanted: str) -> RecordingFile:
    try:
        for path in itertools.islice(paths, _TRIES):
            try:
                return RecordingFile(path)
            except FileExistsError:
                continue
    except ValueError as exc:  # a NUL in the name
        raise MediaError(wanted, str(exc)) from None
    raise MediaError(wanted, "exists already", "name another file, or put {time} or {peer} into the name")
