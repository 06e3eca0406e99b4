"""Video frames in shared memory between the peer's process and the windows' process. The newest frame wins.


The memory is an unnamed file (``memfd``, else a deleted temporary file), so nothing is left behind however a process
ends.

    latest: u64                     number of the newest complete frame, 0 before the first
    3 slots, frame n in slot n % 3:
        sequence: u64               2n when frame n is complete, 2n - 1 while it is written
        width, height: u32          of the pixels that follow
        source_width, source_height: u32, fps: f32, 4 bytes of padding
        pixels                      height x width x 3, BGR, rows without padding

There is one writer and one reader, and neither waits. The reader copies the slot of ``latest`` and compares its
``sequence`` before and after. To overwrite a slot during a copy, the writer must complete two more frames and begin a
third; the reader then detects that and reads the newer frame instead.

Imports only the standard library and numpy, because both processes import it.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LATEST: Final = struct.Struct("=Q")
_SLOT: Final = struct.Struct("=QIIIIf4x")
_SEQUENCE: Final = struct.Struct("=Q")
_SLOTS: Final = 3
_HEADER_SIZE: Final = 64
_MAX_READ_ATTEMPTS: Final = 4


@dataclass(frozen=True, slots=True)
class SharedFrame:
    """A copy of one frame. ``pixels``: shape (height, width, 3), BGR; ``fps``: frame rate of its source."""

    number: int
    pixels: NDArray[np.uint8]
    source_width: int
    source_height: int
    fps: float


def _slot_bytes(max_pixels: int) -> int:
    return _HEADER_SIZE + (max_pixels * 3 + 63) // 64 * 64


class SharedFrameWriter:
    """The peer's side, which owns the memory. ``max_pixels`` is the maximum width x height of a frame.

    Raises:
        OSError: memory or file descriptors are exhausted.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        size = _HEADER_SIZE + _SLOTS * _slot_bytes(max_pixels)
        if hasattr(os, "memfd_create"):
            self._fd = os.memfd_create("peer-window")
        else:
            with tempfile.TemporaryFile(prefix="peer-window-") as file:
                self._fd = os.dup(file.fileno())
        try:
            os.ftruncate(self._fd, size)  # sparse: pages that are never written take no memory
            self._map = mmap.mmap(self._fd, size)
        except OSError:
            os.close(self._fd)
            raise
        self._number = 0

    def fileno(self) -> int:
        """Return the file descriptor to send to the reader's process."""
        return self._fd

    def write(self, pixels: NDArray[np.uint8], source_width: int, source_height: int, fps: float) -> None:
        """Publish ``pixels`` (shape (height, width, 3), BGR, any strides) as the newest frame.

        Raises:
            ValueError: the frame has more than ``max_pixels``.
        """
        height, width = pixels.shape[:2]
        if width * height > self.max_pixels:
            raise ValueError(f"{width}x{height} is more than {self.max_pixels} pixels")
        number = self._number + 1
        at = _HEADER_SIZE + number % _SLOTS * _slot_bytes(self.max_pixels)
        _SLOT.pack_into(self._map, at, 2 * number - 1, width, height, source_width, source_height, fps)
        target = np.frombuffer(self._map, np.uint8, height * width * 3, at + _HEADER_SIZE)
        np.copyto(target.reshape(height, width, 3), pixels)
        _SEQUENCE.pack_into(self._map, at, 2 * number)
        _LATEST.pack_into(self._map, 0, number)
        self._number = number

    def close(self) -> None:
        """Release the memory. The reader's mapping stays valid until the reader closes it."""
        self._map.close()
        os.close(self._fd)


class SharedFrameReader:
    """The windows' side. Takes ownership of the descriptor ``fd``."""

    def __init__(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        os.close(fd)
        self._slot_size = (size - _HEADER_SIZE) // _SLOTS
        self._seen = 0

    def read(self) -> SharedFrame | None:
        """Return the newest frame, complete, or ``None`` if it was read before."""
        for _ in range(_MAX_READ_ATTEMPTS):
            (number,) = _LATEST.unpack_from(self._map, 0)
            if number == self._seen:
                return None
            at = _HEADER_SIZE + number % _SLOTS * self._slot_size
            sequence, width, height, source_width, source_height, fps = _SLOT.unpack_from(self._map, at)
            if sequence != 2 * number:
                continue
            pixels = np.frombuffer(self._map, np.uint8, height * width * 3, at + _HEADER_SIZE).copy()
            if _SEQUENCE.unpack_from(self._map, at)[0] != sequence:
                continue
            self._seen = number
            return SharedFrame(number, pixels.reshape(height, width, 3), source_width, source_height, fps)
        return None  # the writer is faster than the copy; the next call finds a newer frame

    def close(self) -> None:
        """Unmap the memory."""
        self._map.close()
