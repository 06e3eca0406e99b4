"""Blocking calls in threads of their own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from peer.errors import MediaError
from peer.media.threads import in_thread


async def test_in_thread_returns_result_of_another_thread() -> None:
    assert await in_thread("x", threading.get_ident) != threading.get_ident()


async def test_in_thread_does_not_block_the_loop() -> None:
    event = threading.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await in_thread("x", lambda: event.wait(5))


async def test_in_thread_os_error_becomes_media_error() -> None:
    with pytest.raises(MediaError, match="/nowhere: there is no such file"):
        await in_thread("/nowhere", lambda: open("/nowhere"))


async def test_in_thread_other_exception_is_raised_unchanged() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread("x", lambda: 1 / 0)


async def test_in_thread_stuck_call_is_abandoned_after_timeout() -> None:
    event = threading.Event()
    with pytest.raises(MediaError, match="does not answer"):
        await in_thread("x", lambda: event.wait(30), timeout=0.05)
    event.set()
    for thread in threading.enumerate():
        if thread.name == "x":
            await asyncio.to_thread(thread.join, 5)


def test_in_thread_call_that_outlives_the_loop_is_ignored() -> None:
    event = threading.Event()

    async def main() -> None:
        with pytest.raises(MediaError, match="does not answer"):
            await in_thread("late", lambda: event.wait(30), timeout=0.01)

    asyncio.run(main())
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "late"]
    event.set()
    thread.join(10)
    assert not thread.is_alive()
