"""Attempts at several addresses of one server: order, delay, errors, and what happens to the losers."""

from __future__ import annotations

import asyncio

import pytest

from peer.rtc.happy_eyeballs import first_success

DEADLINE = 10.0


class Server:
    """Addresses that answer with their name at once, refuse, or hang. Records the attempts."""

    def __init__(self, **addresses: str) -> None:
        self.addresses = addresses
        self.attempts: list[str] = []
        self.cancelled: list[str] = []
        self.asked = asyncio.Event()

    async def connect(self, address: str) -> str:
        self.attempts.append(address)
        self.asked.set()
        match self.addresses[address]:
            case "refuses":
                raise ConnectionRefusedError(f"{address} refused")
            case "hangs":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled.append(address)
                    raise
        return address

    async def find(self, delay: float) -> str:
        async with asyncio.timeout(DEADLINE):
            return await first_success(list(self.addresses), self.connect, delay=delay)


async def test_first_address_that_answers_is_the_only_one() -> None:
    server = Server(a="answers", b="answers")
    assert await server.find(delay=60.0) == "a"
    assert server.attempts == ["a"]


async def test_refused_attempt_is_followed_by_the_next_at_once() -> None:
    server = Server(a="refuses", b="refuses", c="answers")
    assert await server.find(delay=60.0) == "c"


async def test_address_that_hangs_is_followed_by_the_next() -> None:
    server = Server(a="hangs", b="hangs", c="answers")
    assert await server.find(delay=0.001) == "c"
    assert server.attempts == ["a", "b", "c"] and sorted(server.cancelled) == ["a", "b"]


async def test_refusal_of_the_last_address_does_not_end_the_others() -> None:
    late = asyncio.Event()

    async def connect(address: str) -> str:
        if address == "b":
            late.set()
            raise ConnectionRefusedError
        await late.wait()
        return address

    async with asyncio.timeout(DEADLINE):
        assert await first_success(["a", "b"], connect, delay=0.001) == "a"


async def test_single_address_that_fails_raises_its_error() -> None:
    with pytest.raises(ConnectionRefusedError, match="a refused"):
        await Server(a="refuses").find(delay=60.0)


async def test_several_addresses_that_fail_raise_all_reasons() -> None:
    with pytest.raises(ConnectionError, match="a: a refused; b: b refused"):
        await Server(a="refuses", b="refuses").find(delay=60.0)


async def test_simultaneous_success_is_discarded() -> None:
    go = asyncio.Event()
    started: list[str] = []
    discarded: list[str] = []

    async def connect(address: str) -> str:
        started.append(address)
        if len(started) == 2:
            go.set()
        await go.wait()
        return address

    async with asyncio.timeout(DEADLINE):
        found = await first_success(["a", "b"], connect, delay=0.001, discard=discarded.append)
    assert sorted([found, *discarded]) == ["a", "b"]


async def test_cancellation_cancels_all_attempts() -> None:
    server = Server(a="hangs")
    task = asyncio.ensure_future(server.find(delay=0.001))
    await server.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.cancelled == ["a"]
