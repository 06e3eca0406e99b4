"""The work of a recorder's thread: frames from a queue are interleaved and written into files. Blocking."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import MediaError
from ..frames import EncodedFrame
from .file_names import FileNames
from .interleaver import START_TIMEOUT, Interleaver, Kind, PlacedFrame
from .segmenter import Segmenter

_TIME_RESOLUTION: Final = 0.001
"""Resolution of Matroska timestamps, in seconds."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A finished file."""

    path: Path
    seconds: float
    """Length of the file."""
    dropped: int
    """Frames missing from the file: lost by the network, not decodable because of a loss, dropped because the disk
    was too slow, or in a codec for which the file has no track."""


class Writer:
    """Writer of one recording of at most ``seconds``, into one file or a new file per ``segment`` seconds.

    ``dropped`` returns the number of frames that were lost before they were queued. ``on_recorded`` receives each
    finished file, ``on_failed`` the error of each failed segment.
    """

    def __init__(
        self,
        names: FileNames,
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
        self._interleaver = Interleaver(kinds)
        self._segmenter = Segmenter(
            names,
            kinds,
            self._interleaver.codecs,
            segment=segment,
            on_closed=self._on_file_closed,
            on_failed=self._on_segment_failed,
        )
        self._last_file: Recorded | None = None
        self._last_error: MediaError | None = None
        self.read_bytes = 0
        """Size of the frames read from the queue. May be read from the event loop."""
        self._files = self._failures = self._reported_dropped = 0

    @property
    def needs_key_frame(self) -> bool:
        """Whether a key frame is needed. May be read from the event loop."""
        return self._interleaver.needs_key_frame or self._segmenter.needs_key_frame

    def open(self) -> None:
        """Without segments, create the file now, so that an error is reported before the first frame.

        Raises:
            MediaError: it cannot be created.
        """
        if self._segment is None:
            self._segmenter.open()

    def record(self, frames: queue.SimpleQueue[EncodedFrame | None]) -> Recorded:
        """Record ``frames`` until ``None`` or until ``seconds`` are recorded. Return the last file.

        Raises:
            MediaError: a frame or a segment could not be written, or there was nothing to record.
        """
        try:
            for placed in self._placed(frames):
                if self._seconds is not None and placed.time >= self._seconds - _TIME_RESOLUTION:
                    break
                self._segmenter.write(placed.time, placed.frame)
        finally:
            self._segmenter.close()
        if self._last_error is not None:
            why = f"{self._failures} of {self._files + self._failures} segments were lost"
            raise MediaError(str(self._names), why, f"the last one: {self._last_error.why}")
        if self._last_file is None:
            raise MediaError(str(self._names), "nothing was recorded: no media arrived")
        return self._last_file

    def _placed(self, frames: queue.SimpleQueue[EncodedFrame | None]) -> Iterator[PlacedFrame]:
        while True:
            try:
                frame = frames.get(timeout=None if self._interleaver.started else START_TIMEOUT / 10)
            except queue.Empty:
                yield from self._interleaver.check(time.monotonic())
                continue
            if frame is None:
                yield from self._interleaver.flush()
                return
            self.read_bytes += len(frame.data)
            yield from self._interleaver.add(frame, time.monotonic())

    def _on_file_closed(self, path: Path, seconds: float) -> None:
        dropped = self._dropped() + self._segmenter.dropped
        self._last_file = Recorded(path, round(seconds, 3), dropped - self._reported_dropped)
        self._reported_dropped = dropped
        self._files += 1
        self._on_recorded(self._last_file)

    def _on_segment_failed(self, error: MediaError) -> None:
        self._last_error = error
        self._failures += 1
        self._on_failed(error)
