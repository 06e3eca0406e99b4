"""Octets of a fuzzer, read as decisions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Octets:
    """A cursor that never fails: behind the end all is zero, and empty."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """How many octets have not been read."""
        return max(0, len(self._data) - self._at)

    def take(self, count: int) -> bytes:
        """So many octets, or what is left."""
        taken = self._data[self._at : self._at + count]
        self._at += count
        return taken

    def rest(self) -> bytes:
        return self.take(self.left)

    def number(self, octets: int = 1) -> int:
        return int.from_bytes(self.take(octets))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.number() % len(options)]

    def chunk(self) -> bytes:
        """Up to 255 octets, as many as the first one says."""
        return self.take(self.number())

    def text(self) -> str:
        """A chunk as text; octets that are no UTF-8 are characters too."""
        return self.chunk().decode("utf-8", "surrogateescape")
