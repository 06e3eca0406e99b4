"""Names of the files of one recording. Blocking: reads folders and creates files.

Without segments, the first file has the requested name. If another has to follow (``segmenter.py`` states when), it
gets a number: ``door.mkv``, ``door-2.mkv``. With segments, ``{time}`` is replaced by the start time of each file.
Without ``{time}``, files get a number of four digits, which continues after the existing files: ``door-0001.mkv``. No
name is used twice, and no existing file is overwritten.
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
from .muxer import Muxer, check_suffix

_MAX_ATTEMPTS: Final = 1000
"""Maximum number of existing names that are skipped. So many recordings within one second are a mistake."""


FileNames: TypeAlias = "SinglePath | SegmentPaths"


class SinglePath:
    """``path`` for the first file, then ``path`` with a number."""

    def __init__(self, path: Path) -> None:
        check_suffix(path)
        self._path = path
        self._next_number = 1

    def __str__(self) -> str:
        return str(self._path)

    def create(self) -> Muxer:
        """Create the next file.

        Raises:
            MediaError: it is not writable, or the first file exists.
        """
        if self._next_number > 1:
            return _create_first_free(self._numbered(), str(self._path))
        muxer = _create_first_free(iter([self._path]), str(self._path))
        self._next_number = 2
        return muxer

    def _numbered(self) -> Iterator[Path]:
        while True:
            self._next_number += 1
            yield self._path.with_name(f"{self._path.stem}-{self._next_number - 1}{self._path.suffix}")


class SegmentPaths:
    """``template`` with the remote's id for ``{peer}``, and the start time for ``{time}`` or else a number.

    Raises:
        MediaError: the template has an unknown placeholder or an unsupported suffix.
    """

    def __init__(self, template: str, peer: str) -> None:
        self._template = str(fill(template, peer=peer, now=None))
        check_suffix(Path(self._template))
        self._next_number: int | None = None

    def __str__(self) -> str:
        return self._template

    def create(self) -> Muxer:
        """Create the next file.

        Raises:
            MediaError: it is not writable.
        """
        paths = self._timed() if "{time}" in self._template else self._numbered()
        return _create_first_free(paths, self._template)

    def _timed(self) -> Iterator[Path]:
        path = fill(self._template, peer="", now=datetime.now())
        yield path
        for number in itertools.count(2):
            yield path.with_name(f"{path.stem}-{number}{path.suffix}")

    def _numbered(self) -> Iterator[Path]:
        path = Path(self._template)
        if self._next_number is None:
            self._next_number = _highest_number(path) + 1
        while True:
            self._next_number += 1
            yield path.with_name(f"{path.stem}-{self._next_number - 1:04}{path.suffix}")


def _highest_number(path: Path) -> int:
    """Return the highest number after the stem of ``path`` among existing files, or 0."""
    pattern = re.compile(re.escape(path.stem) + r"-(\d{4,9})" + re.escape(path.suffix))
    try:
        with os.scandir(path.parent) as entries:
            matches = (pattern.fullmatch(entry.name) for entry in entries)
            return max((int(match[1]) for match in matches if match is not None), default=0)
    except OSError:  # the folder is missing, or creating the file will report what is wrong with it
        return 0


def _create_first_free(paths: Iterator[Path], requested: str) -> Muxer:
    """Create a file at the first of ``paths`` that does not exist."""
    try:
        for path in itertools.islice(paths, _MAX_ATTEMPTS):
            try:
                return Muxer(path)
            except FileExistsError:
                continue
    except ValueError as exc:  # the path contains a NUL character
        raise MediaError(requested, str(exc)) from None
    raise MediaError(requested, "the file exists", "name another file, or put {time} or {peer} into the name")
