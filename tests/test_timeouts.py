"""The time-out for clean-up, in tasks that are being cancelled."""

from __future__ import annotations

import asyncio

import pytest

from peer.timeouts import CleanupTimeout


async def _expire_after_cancellation(started: asyncio.Event) -> str:
    started.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        try:
            async with CleanupTimeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "timed out"
    return "not cancelled"


async def test_timeout_in_a_cancelled_task_raises_timeout_error() -> None:
    started = asyncio.Event()
    task = asyncio.ensure_future(_expire_after_cancellation(started))
    await started.wait()
    task.cancel()
    assert await task == "timed out"
    assert task.cancelling() == 1, "the cancellation from outside still counts"


async def test_timeout_in_an_ordinary_task_raises_timeout_error() -> None:
    with pytest.raises(TimeoutError):
        async with CleanupTimeout(0.001):
            await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0


async def test_block_that_ends_in_time_is_not_cancelled() -> None:
    async with CleanupTimeout(0.01):
        pass
    await asyncio.sleep(0.02)  # no cancellation is left behind


async def test_error_of_the_block_passes_through() -> None:
    with pytest.raises(ValueError, match="wrong"):
        async with CleanupTimeout(10):
            raise ValueError("wrong")


async def test_cancellation_from_outside_passes_through() -> None:
    inside = asyncio.Event()

    async def wait() -> None:
        async with CleanupTimeout(10):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(wait())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancellation_just_before_expiry_passes_through() -> None:
    inside = asyncio.Event()

    async def wait() -> None:
        async with CleanupTimeout(0):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(wait())
    await inside.wait()
    task.cancel()  # the timer runs after this, in the same iteration of the event loop
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 1
