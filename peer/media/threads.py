"""One blocking call beside the event loop, in a thread of its own.

The default executor is no place for devices: the encoders share it, and a stuck call there holds the process's exit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import av

from peer.errors import MediaError
from peer.media.failure import explain

T = TypeVar("T")

_PATIENCE: Final = 15.0
"""Seconds for a call to come back."""


async def in_thread(name: str, call: Callable[[], T], patience: float = _PATIENCE) -> T:
    """What ``call`` returns. A thread that does not come back in ``patience`` seconds is abandoned.

    Raises:
        MediaError: ``call`` raised MediaError, OSError, ValueError or FFmpegError, or did not come back.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, problem: Exception | None) -> None:
        if outcome.done():
            return
        if problem is not None:
            outcome.set_exception(problem)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = call()
        except (MediaError, OSError, ValueError, av.error.FFmpegError) as problem:
            error = explain(name, problem)
        except Exception as bug:  # it belongs to who asked, not to this thread
            error = bug
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the event loop went first

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        async with asyncio.timeout(patience):
            return await outcome
    except TimeoutError:
        raise MediaError(name, f"does not answer within {patience:g} s") from None
