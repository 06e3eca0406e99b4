"""The file beneath a recording: unbuffered, written whole, made durable on a schedule. Blocking: threads only."""

from __future__ import annotations

import os
import time
from pathlib import Path


class Disk:
    """A new file at ``path``, for FFmpeg to write into. Folders that are missing are made.

    Raises:
        FileExistsError: there is something of that name.
        OSError: the place cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "xb", buffering=0)
        self._synced = time.monotonic()
        self.error: OSError | None = None
        """Why it could not be written."""
        self.writes = 0
        """How often something was written: what a muxer holds back is not."""
        self.seek = self._file.seek
        self.tell = self._file.tell

    def write(self, data: bytes) -> int:
        view = memoryview(data)
        try:
            while view:  # a raw file may take less than it was given; FFmpeg would not notice
                view = view[self._file.write(view) or 0 :]
        except OSError as exc:
            self.error = exc
            raise
        self.writes += 1
        return len(data)

    def sync(self, every: float) -> None:
        """Onto the disk, unless that was less than ``every`` seconds ago."""
        now = time.monotonic()
        if not self._file.closed and now - self._synced >= every:
            os.fdatasync(self._file.fileno())
            self._synced = now

    def close(self, *, keep: bool) -> None:
        """Close the file, and remove it unless it is worth to ``keep``. May be called twice."""
        if self._file.closed:
            return
        self._file.close()
        if not keep:
            self._path.unlink(missing_ok=True)
