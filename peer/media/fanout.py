"""One producer, any number of readers, each with a bounded queue of its own; the newest wins.

A slow reader loses its own oldest items and costs nobody else anything. The first reader opens what feeds the
fan-out and the last one closes it: ``on_first`` and ``on_last`` are called in the event loop.

Must never: block, grow, or be touched from a thread (enter the loop by ``call_soon_threadsafe``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Reader(Generic[T]):
    """One reader's end. An async iterator that ends when the reader or its fan-out is closed."""

    def __init__(self, fanout: Fanout[T], size: int, items: Iterable[T] = ()) -> None:
        self._fanout = fanout
        self._items: deque[T] = deque(items, maxlen=size)
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False
        self.dropped = 0
        """Items that this reader was too slow for."""

    def _put(self, item: T) -> None:
        if len(self._items) == self._items.maxlen:
            self.dropped += 1
        self._items.append(item)
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def get_nowait(self) -> T | None:
        """The oldest item that waits, or ``None``."""
        return self._items.popleft() if self._items else None

    async def get(self) -> T:
        """The oldest item that waits, or the next one.

        Raises:
            StopAsyncIteration: the reader or its fan-out is closed and nothing waits any more.
        """
        while not self._items:
            if self.closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._items.popleft()

    def __aiter__(self) -> Reader[T]:
        return self

    async def __anext__(self) -> T:
        return await self.get()

    def close(self) -> None:
        """Stop reading. May be called twice."""
        if not self.closed:
            self.closed = True
            self._fanout._remove(self)
            self._wake()

    def __enter__(self) -> Reader[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Fanout(Generic[T]):
    """See the module. ``on_first`` runs when the first reader comes, ``on_last`` when the last one has gone."""

    def __init__(self, on_first: Callable[[], None] | None = None, on_last: Callable[[], None] | None = None) -> None:
        self._readers: list[Reader[T]] = []
        self._on_first = on_first
        self._on_last = on_last
        self.closed = False

    @property
    def readers(self) -> int:
        """How many read now."""
        return len(self._readers)

    def read(self, size: int = 2, items: Iterable[T] = ()) -> Reader[T]:
        """A new reader with room for ``size`` items, and with ``items`` to begin with. Of a closed fan-out: a reader
        that ends when it has read those."""
        reader: Reader[T] = Reader(self, size, items)
        if self.closed:
            reader.closed = True
            return reader
        self._readers.append(reader)
        if len(self._readers) == 1 and self._on_first is not None:
            self._on_first()
        return reader

    def put(self, item: T) -> None:
        """Hand ``item`` to every reader there is."""
        for reader in self._readers:
            reader._put(item)

    def close(self) -> None:
        """End all readers, once they have read what waits. May be called twice."""
        if self.closed:
            return
        self.closed = True
        for reader in list(self._readers):
            reader.close()

    def _remove(self, reader: Reader[T]) -> None:
        if reader in self._readers:
            self._readers.remove(reader)
            if not self._readers and self._on_last is not None:
                self._on_last()
