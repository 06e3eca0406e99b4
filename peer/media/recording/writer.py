"""What a recorder's thread does: takes frames from a queue, puts them in order (lineup.py), writes them into
files (reel.py). Blocking.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import MediaError
from ..frames import EncodedFrame
from .file_names import Names
from .interleaver import START_WAIT, Kind, Lineup, Placed
from .segmenter import Reel

_SAME: Final = 0.001
"""Seconds: Matroska's own precision."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A file that was closed. ``seconds`` is its length, ``dropped`` counts frames that are missing in it: lost on
    the way, of no use without those, more than the disk could take, of a codec that the file has no track for."""

    path: Path
    seconds: float
    dropped: int


class Tape:
    """One recording, ``seconds`` long at the most, into the files of ``names``, a new one each ``segment`` seconds.

    ``dropped`` counts the frames that did not get here. ``on_recorded`` gets each file, ``on_failed`` each segment
    that could not be written.
    """

    def __init__(
        self,
        names: Names,
        kinds: Collection[Kind],
        *,
        seconds: float | None,
        segment: float | None,
        dropped: Callable[[], int],
        on_recorded: Callable[[Recorded], None],
        on_failed: Callable[[MediaError], None],
    ) -> None:
        self._names = names
        self._seconds = seconds
        self._segment = segment
        self._dropped = dropped
        self._on_recorded = on_recorded
        self._on_failed = on_failed
        self._lineup = Lineup(kinds)
        self._reel = Reel(
            names, kinds, self._lineup.codecs, segment=segment, on_closed=self._closed, on_failed=self._failed
        )
        self._last: Recorded | None = None
        self._failure: MediaError | None = None
        self._files = self._failures = self._told = 0

    @property
    def wants_key_frame(self) -> bool:
        """Read by the loop."""
        return self._lineup.wants_key_frame or self._reel.wants_key_frame

    def open(self) -> None:
        """Without segments: make the file, so that what is wrong with it shows before there is a frame for it.

        Raises:
            MediaError: it cannot be made.
        """
        if self._segment is None:
            self._reel.open()

    def record(self, frames: queue.SimpleQueue[EncodedFrame | None]) -> Recorded:
        """Until ``None`` comes, or the length is reached; the last file.

        Raises:
            MediaError: it could not be written, there was nothing to record, or some segments were lost.
        """
        try:
            for at, frame in self._placed(frames):
                if self._seconds is not None and at >= self._seconds - _SAME:
                    break
                self._reel.write(at, frame)
        finally:
            self._reel.close()
        if self._failure is not None:
            lost = f"{self._failures} of {self._files + self._failures} segments were lost"
            raise MediaError(str(self._names), lost, f"the last one: {self._failure.why}")
        if self._last is None:
            raise MediaError(str(self._names), "nothing was recorded: no media came")
        return self._last

    def _placed(self, frames: queue.SimpleQueue[EncodedFrame | None]) -> Iterator[Placed]:
        while True:
            try:
                frame = frames.get(timeout=None if self._lineup.began else START_WAIT / 10)
            except queue.Empty:
                yield from self._lineup.look(time.monotonic())
                continue
            if frame is None:
                yield from self._lineup.rest()
                return
            yield from self._lineup.add(frame, time.monotonic())

    def _closed(self, path: Path, seconds: float) -> None:
        dropped = self._dropped() + self._reel.dropped
        self._last = Recorded(path, round(seconds, 3), dropped - self._told)
        self._told = dropped
        self._files += 1
        self._on_recorded(self._last)

    def _failed(self, failure: MediaError) -> None:
        self._failure = failure
        self._failures += 1
        self._on_failed(failure)
