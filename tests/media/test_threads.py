"""A blocking call in a thread of its own."""

from __future__ import annotations

import asyncio
import threading

import pytest

from peer.errors import MediaError
from peer.media.threads import in_thread


async def test_gives_the_result_and_runs_elsewhere() -> None:
    assert await in_thread("x", threading.get_ident) != threading.get_ident()


async def test_the_loop_goes_on_meanwhile() -> None:
    event = threading.Event()
    asyncio.get_running_loop().call_soon(event.set)
    assert await in_thread("x", lambda: event.wait(5))


async def test_an_error_of_a_device_is_explained() -> None:
    with pytest.raises(MediaError, match="/nowhere: there is no such file"):
        await in_thread("/nowhere", lambda: open("/nowhere"))


async def test_a_bug_stays_a_bug() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread("x", lambda: 1 / 0)


async def test_a_call_that_does_not_come_back_is_abandoned() -> None:
    event = threading.Event()
    with pytest.raises(MediaError, match="does not answer"):
        await in_thread("x", lambda: event.wait(30), timeout=0.05)
    event.set()
    for thread in threading.enumerate():
        if thread.name == "x":
            await asyncio.to_thread(thread.join, 5)
