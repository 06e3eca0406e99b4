"""Polling with a deadline, for conditions that send no event."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

STEP = 0.02
"""Polling interval in seconds."""


async def until(condition: Callable[[], object], timeout: float = 10.0) -> None:
    """Wait until ``condition()`` is true. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(STEP)


async def until_listening(port: int, timeout: float = 10.0) -> None:
    """Wait until a program accepts TCP connections on this port of loopback. Raises TimeoutError."""
    async with asyncio.timeout(timeout):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(STEP)
                continue
            writer.close()
            await writer.wait_closed()
            return


def on_this_machine(seconds: float) -> float:
    """Return the limit for a promise of ``seconds``. Promises hold while all cores are busy.

    If more than two programs per core want to run, as when test runs share a machine, it grows with their number."""
    return seconds * max(1.0, os.getloadavg()[0] / (2 * (os.cpu_count() or 1)))
