"""Reads the bytes of a fuzzer as decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class ByteReader:
    """A cursor that never fails: past the end, numbers are zero and bytes are empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Number of unread bytes."""
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        """Return ``count`` bytes, or as many as are left."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(self.left)

    def number(self, size: int = 1) -> int:
        return int.from_bytes(self.take(size))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number() % len(options)]

    def chunk(self) -> bytes:
        """Return up to 255 bytes; the first byte is the length."""
        return self.take(self.number())

    def text(self) -> str:
        """Return a chunk as text; invalid UTF-8 becomes surrogates."""
        return self.chunk().decode("utf-8", "surrogateescape")
