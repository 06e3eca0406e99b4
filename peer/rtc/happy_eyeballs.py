"""Attempts at the addresses of a server, as "Happy Eyeballs" (RFC 8305): an address that does not answer costs half a
second, and one that refuses costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

T = TypeVar("T")

ATTEMPT_DELAY: Final = 0.5
"""Time after which the next address is tried as well, in seconds. RFC 8305 recommends 0.25 s for a TCP connection,
which takes one round trip. A TURN allocation takes two over UDP and four over TLS, and should not be made twice."""


async def first_success(
    addresses: Sequence[str],
    attempt: Callable[[str], Coroutine[Any, Any, T]],
    *,
    discard: Callable[[T], None] = lambda result: None,
    delay: float = ATTEMPT_DELAY,
) -> T:
    """Return the result of the first ``attempt`` that succeeds, and cancel the others.

    The next address is tried as soon as an attempt fails, or after ``delay`` seconds.

    Args:
        addresses: in the order in which to try them; at least one.
        discard: called with the result of an attempt that succeeded at the same time.

    Raises:
        Exception: of the attempt at a single address.
        ConnectionError: all attempts at several addresses have failed; names the reason of each.
    """
    loop = asyncio.get_running_loop()
    waiting = list(addresses)
    attempts: dict[asyncio.Task[T], str] = {}
    errors: list[tuple[str, BaseException]] = []
    winner: asyncio.Task[T] | None = None
    pending: set[asyncio.Task[T]] = set()
    try:
        while winner is None:
            if waiting:
                address = waiting.pop(0)
                task = loop.create_task(attempt(address), name=f"attempt {address}")
                attempts[task] = address
                pending.add(task)
            elif not pending:
                raise _failure(errors)
            done, pending = await asyncio.wait(
                pending, timeout=delay if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
                if error is not None:
                    errors.append((attempts[task], error))
                elif winner is None:
                    winner = task
        return winner.result()
    finally:
        for task in pending:
            task.cancel()
        if pending:
            await asyncio.wait(pending)
        for task in attempts:
            if task is not winner and task.done() and not task.cancelled() and task.exception() is None:
                discard(task.result())


def _failure(errors: Sequence[tuple[str, BaseException]]) -> BaseException:
    if len(errors) == 1:
        return errors[0][1]
    return ConnectionError("; ".join(f"{address}: {error or type(error).__name__}" for address, error in errors))
