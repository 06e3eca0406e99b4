"""A fan-out: one producer, any number of readers, one bounded queue per reader.

A slow reader loses its own oldest items; the producer and the other readers do not notice. ``on_first`` is called
when the first reader is added, typically to open what feeds the fan-out, and ``on_last`` when the last one has
closed.

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
    """One reader's queue, for one task. An async iterator that ends when the reader or its fan-out is closed."""

    def __init__(self, fanout: Fanout[T], size: int, items: Iterable[T] = ()) -> None:
        self._fanout = fanout
        self._items: deque[T] = deque(items, maxlen=size)
        self._bytes = sum(map(fanout.size_of, self._items))
        self._waiter: asyncio.Future[None] | None = None
        self.closed = False
        self.dropped = 0
        """Items dropped because this reader was too slow."""

    def _put(self, item: T) -> None:
        if len(self._items) == self._items.maxlen:
            self._take()
            self.dropped += 1
        self._items.append(item)
        self._bytes += self._fanout.size_of(item)
        while self._bytes > self._fanout.max_bytes and len(self._items) > 1:
            self._take()
            self.dropped += 1
        self._wake()

    def _take(self) -> T:
        item = self._items.popleft()
        self._bytes -= self._fanout.size_of(item)
        return item

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def get_nowait(self) -> T | None:
        """Return the oldest queued item, or ``None``."""
        return self._take() if self._items else None

    async def get(self) -> T:
        """Return the oldest queued item, or wait for one.

        Raises:
            StopAsyncIteration: the reader or its fan-out is closed and the queue is empty.
        """
        while not self._items:
            if self.closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._take()

    def __aiter__(self) -> Reader[T]:
        return self

    async def __anext__(self) -> T:
        return await self.get()

    def close(self) -> None:
        """Stop receiving items; those already queued can still be read. May be called twice."""
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
    """One producer's fan-out. See the module for ``on_first`` and ``on_last``; both run in the event loop.

    A queue also drops its oldest items while their sizes exceed ``max_bytes``. ``size_of`` returns the size of an
    item, which a remote may choose.
    """

    def __init__(
        self,
        on_first: Callable[[], None] | None = None,
        on_last: Callable[[], None] | None = None,
        *,
        size_of: Callable[[T], int] = lambda _: 0,
        max_bytes: int = 0,
    ) -> None:
        self.size_of = size_of
        self.max_bytes = max_bytes
        self._readers: list[Reader[T]] = []
        self._on_first = on_first
        self._on_last = on_last
        self.closed = False

    @property
    def readers(self) -> int:
        """Number of open readers."""
        return len(self._readers)

    def read(self, size: int = 2, items: Iterable[T] = ()) -> Reader[T]:
        """Return a new reader with a queue of ``size`` items that already holds ``items``.

        The reader of a closed fan-out ends after ``items``.
        """
        reader: Reader[T] = Reader(self, size, items)
        if self.closed:
            reader.closed = True
            return reader
        self._readers.append(reader)
        if len(self._readers) == 1 and self._on_first is not None:
            self._on_first()
        return reader

    def put(self, item: T) -> None:
        """Append ``item`` to the queue of every reader."""
        for reader in self._readers:
            reader._put(item)

    def close(self) -> None:
        """End all readers, each after its queued items. May be called twice."""
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
