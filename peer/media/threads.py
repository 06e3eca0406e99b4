"""A blocking call in a thread of its own, awaited from the event loop.

Device calls do not use the default executor: the encoders share it, and a stuck call there blocks the process's exit.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final, TypeVar

import av

from peer.errors import MediaError
from peer.media.failure import media_error

T = TypeVar("T")

_TIMEOUT: Final = 15.0
"""Maximum time for a call to return, in seconds."""


async def in_thread(name: str, call: Callable[[], T], timeout: float = _TIMEOUT) -> T:
    """Return what ``call`` returns. A thread that takes longer than ``timeout`` seconds is abandoned.

    Raises:
        MediaError: ``call`` raised MediaError, OSError, ValueError or FFmpegError, or did not return in time.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        error: Exception | None = None
        try:
            result = call()
        except (MediaError, OSError, ValueError, av.error.FFmpegError) as problem:
            error = media_error(name, problem)
        except Exception as bug:  # raised where the call is awaited, not in this thread
            error = bug
        try:
            loop.call_soon_threadsafe(settle, result, error)
        except RuntimeError:
            return  # the event loop is closed

    threading.Thread(target=run, name=name, daemon=True).start()
    try:
        async with asyncio.timeout(timeout):
            return await outcome
    except TimeoutError:
        raise MediaError(name, f"it does not answer within {timeout:g} s") from None
