"""Clients from addresses that a trusted proxy reports, so that a test can use any number of them."""

from __future__ import annotations

from typing import Any

from server.relay import Relay

from .wire import OPENING, Raw, text

PROXIED: dict[str, Any] = {"trust_proxies": ("127.0.0.1",), "exempt": (), "open": True}


async def come(server: Relay, address: str) -> tuple[Raw, bytes]:
    """Open a connection from ``address``. Returns it and the response to its opening."""
    raw = await Raw.connect(server.port)
    raw.writer.write(OPENING.replace(b"Host: localhost", b"Host: localhost\r\nX-Forwarded-For: " + address.encode()))
    return raw, await raw.head()


async def join(server: Relay, address: str, peer_id: str) -> Raw:
    """Join the room from ``address``."""
    raw, head = await come(server, address)
    assert head.startswith(b"HTTP/1.1 101 "), head
    raw.writer.write(text({"type": "join", "peerId": peer_id}))
    assert (await raw.get())["type"] == "peer-list"
    return raw


async def refused(server: Relay, address: str, peer_id: str = "late") -> tuple[str, int]:
    """Join from ``address``, and return the error code and the close code."""
    raw, head = await come(server, address)
    assert head.startswith(b"HTTP/1.1 101 "), head
    raw.writer.write(text({"type": "join", "peerId": peer_id}))
    answer = (await raw.get())["code"], await raw.closed()
    await raw.end()
    return answer
