"""Pictures from the peer's process to the windows' process: shared memory, one writer, one reader, newest wins.

The memory is a file without a name (``memfd``, else a temporary file), so that no way of dying leaves one behind.

    latest: u64                     number of the newest whole picture, 0 while there is none
    3 slots, picture n in slot n % 3:
        sequence: u64               2n when picture n is whole, 2n - 1 while it is written
        width, height: u32          of the pixels that follow
        source_width, source_height: u32, fps: f32, 4 octets of padding
        pixels                      height x width x 3, BGR, rows without padding

A reader copies the slot of ``latest`` and looks at its ``sequence`` before and after: with three slots a writer must
finish two more pictures and begin a third during one copy to spoil it, and then the reader sees that and takes the
newer one. Nobody waits for anybody.

Standard library and numpy only: both processes import it.
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
_HEAD: Final = 64
_TRIES: Final = 4


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture, copied out. ``pixels``: height x width x 3, BGR; ``fps`` frames a second of its source."""

    number: int
    pixels: NDArray[np.uint8]
    source_width: int
    source_height: int
    fps: float


def _slot_octets(max_pixels: int) -> int:
    return _HEAD + (max_pixels * 3 + 63) // 64 * 64


class SharedFrameWriter:
    """The peer's end: owns the memory. ``max_pixels`` bounds width x height of a picture.

    Raises:
        OSError: there is no memory, or no descriptor for it.
    """

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        octets = _HEAD + _SLOTS * _slot_octets(max_pixels)
        if hasattr(os, "memfd_create"):
            self._fd = os.memfd_create("peer-window")
        else:
            with tempfile.TemporaryFile(prefix="peer-window-") as file:
                self._fd = os.dup(file.fileno())
        try:
            os.ftruncate(self._fd, octets)  # sparse: what is never written costs nothing
            self._map = mmap.mmap(self._fd, octets)
        except OSError:
            os.close(self._fd)
            raise
        self._number = 0

    def fileno(self) -> int:
        """The descriptor to hand to the reader's process."""
        return self._fd

    def write(self, pixels: NDArray[np.uint8], source_width: int, source_height: int, fps: float) -> None:
        """Publish ``pixels`` (height x width x 3, BGR, any strides) as the newest picture."""
        height, width = pixels.shape[:2]
        if width * height > self.max_pixels:
            raise ValueError(f"{width}x{height} is more than {self.max_pixels} pixels")
        number = self._number + 1
        at = _HEAD + number % _SLOTS * _slot_octets(self.max_pixels)
        _SLOT.pack_into(self._map, at, 2 * number - 1, width, height, source_width, source_height, fps)
        target = np.frombuffer(self._map, np.uint8, height * width * 3, at + _HEAD)
        np.copyto(target.reshape(height, width, 3), pixels)
        _SEQUENCE.pack_into(self._map, at, 2 * number)
        _LATEST.pack_into(self._map, 0, number)
        self._number = number

    def close(self) -> None:
        """Give the memory back. The reader's mapping lives until the reader closes it."""
        self._map.close()
        os.close(self._fd)


class SharedFrameReader:
    """The windows' end. Takes over the descriptor ``fd``."""

    def __init__(self, fd: int) -> None:
        octets = os.fstat(fd).st_size
        self._map = mmap.mmap(fd, octets, access=mmap.ACCESS_READ)
        os.close(fd)
        self._slot = (octets - _HEAD) // _SLOTS
        self._seen = 0

    def read(self) -> Picture | None:
        """The newest picture, if it was not read before; never a torn one."""
        for _ in range(_TRIES):
            (number,) = _LATEST.unpack_from(self._map, 0)
            if number == self._seen:
                return None
            at = _HEAD + number % _SLOTS * self._slot
            sequence, width, height, source_width, source_height, fps = _SLOT.unpack_from(self._map, at)
            if sequence != 2 * number:
                continue
            pixels = np.frombuffer(self._map, np.uint8, height * width * 3, at + _HEAD).copy()
            if _SEQUENCE.unpack_from(self._map, at)[0] != sequence:
                continue
            self._seen = number
            return Picture(number, pixels.reshape(height, width, 3), source_width, source_height, fps)
        return None  # a writer faster than we copy: the next look finds a newer one

    def close(self) -> None:
        """Unmap."""
        self._map.close()
