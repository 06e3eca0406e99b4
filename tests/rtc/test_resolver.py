"""Resolution of host names in threads of their own."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from peer.rtc.resolver import MAX_ADDRESSES, alternate_families, resolve


@pytest.mark.parametrize(("host", "expected"), [("192.0.2.1", "192.0.2.1"), ("2001:DB8:0::1", "2001:db8::1")])
async def test_ip_address_is_returned_without_a_lookup(
    host: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(socket, "getaddrinfo")
    assert await resolve(host, 3478) == [expected]


async def test_name_is_resolved_for_the_requested_family(monkeypatch: pytest.MonkeyPatch) -> None:
    lookups: list[tuple[Any, ...]] = []

    def getaddrinfo(*args: Any) -> list[Any]:
        lookups.append((*args, threading.current_thread().name, threading.current_thread().daemon))
        return [
            (args[2], args[3], 17, "", ("192.0.2.7", args[1])),
            (args[2], args[3], 17, "", ("192.0.2.8", args[1])),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await resolve("turn.example", 3478, socket.AF_INET) == ["192.0.2.7", "192.0.2.8"]
    assert lookups == [("turn.example", 3478, socket.AF_INET, socket.SOCK_DGRAM, "resolve-turn.example", True)]


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ("::1 127.0.0.1", "::1 127.0.0.1"),
        ("::1 ::2 ::3 10.0.0.1 10.0.0.2", "::1 10.0.0.1 ::2 10.0.0.2 ::3"),
        ("10.0.0.1 10.0.0.2 ::1", "10.0.0.1 ::1 10.0.0.2"),
        ("10.0.0.1 10.0.0.1 10.0.0.2", "10.0.0.1 10.0.0.2"),
        ("", ""),
    ],
)
def test_address_families_take_turns(addresses: str, expected: str) -> None:
    assert alternate_families(addresses.split()) == expected.split()


async def test_number_of_addresses_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: Any) -> list[Any]:
        return [(args[2], args[3], 17, "", (f"10.0.{n // 250}.{n % 250}", args[1])) for n in range(1000)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert len(await resolve("turn.example", 3478)) == MAX_ADDRESSES


@pytest.mark.parametrize("error", [socket.gaierror(socket.EAI_NONAME, "no such name"), UnicodeError("no such name")])
async def test_name_that_cannot_be_resolved_raises(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args: Any) -> list[Any]:
        raise error

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(OSError, match="no such name"):
        await resolve("turn.example", 3478)


async def _abandon_a_lookup(started: threading.Event, hanging: threading.Event) -> None:
    task = asyncio.ensure_future(resolve("turn.example", 3478))
    await asyncio.to_thread(started.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not hanging.is_set()


@pytest.mark.parametrize("ends_in_time", [True, False])
def test_cancelled_lookup_that_ends_late_does_no_harm(ends_in_time: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    started, hanging = threading.Event(), threading.Event()

    def getaddrinfo(*args: Any) -> list[Any]:
        started.set()
        hanging.wait(10)
        return [(args[2], args[3], 17, "", ("192.0.2.7", args[1]))]

    async def run() -> None:
        await _abandon_a_lookup(started, hanging)
        if ends_in_time:
            hanging.set()
            await asyncio.to_thread(_join_lookup)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    asyncio.run(run())  # an exception in the thread would be a warning, which is an error
    hanging.set()
    _join_lookup()


def _join_lookup() -> None:
    for thread in threading.enumerate():
        if thread.name == "resolve-turn.example":
            thread.join(10)
