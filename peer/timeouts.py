"""Time-out for clean-up, where the task may be cancelled already.

Before Python 3.11.3 (Debian 12 has 3.11.2), ``asyncio.timeout`` raises ``CancelledError`` instead of ``TimeoutError``
in a task that was cancelled before (https://github.com/python/cpython/issues/102780). The rest of the clean-up would
be skipped.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class CleanupTimeout:
    """Asynchronous context manager that cancels its block after ``seconds``, and then raises ``TimeoutError``.

    As with ``asyncio.timeout``, a cancellation of the task from outside passes through as ``CancelledError``.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._expired = False

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "outside a task"
        self._task = task
        self._cancelling = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._expire)

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from exc

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()
