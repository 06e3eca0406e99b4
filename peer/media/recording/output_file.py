"""The file that a muxer writes into: unbuffered, no short writes, synced at intervals. Blocking: threads only."""

from __future__ import annotations

import os
import time
from pathlib import Path


class OutputFile:
    """A new file at ``path``, opened for FFmpeg. Missing folders are created.

    Raises:
        FileExistsError: ``path`` exists.
        OSError: ``path`` is not writable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "xb", buffering=0)
        self._synced_at = time.monotonic()
        self.error: OSError | None = None
        """The error of the last failed write."""
        self.writes = 0
        """Number of successful writes. A muxer holds packets back, so it writes less often than it is called."""
        self.seek = self._file.seek
        self.tell = self._file.tell

    def write(self, data: bytes) -> int:
        """Write all of ``data``. A raw file may accept a part of it, which FFmpeg would not notice.

        Raises:
            OSError: the disk is full or gone.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) or 0 :]
        except OSError as exc:
            self.error = exc
            raise
        self.writes += 1
        return len(data)

    def sync(self, interval: float) -> None:
        """Flush to disk (fdatasync), unless the last time was less than ``interval`` seconds ago.

        Raises:
            OSError: the disk is full or gone.
        """
        now = time.monotonic()
        if not self._file.closed and now - self._synced_at >= interval:
            os.fdatasync(self._file.fileno())
            self._synced_at = now

    def close(self, *, keep: bool) -> None:
        """Close the file, and delete it unless ``keep`` is true. May be called twice."""
        if self._file.closed:
            return
        self._file.close()
        if not keep:
            self._path.unlink(missing_ok=True)
