"""What every proxy in front of a relay is asked for, by peers and browsers at its door."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from peer.signaling.messages import MAX_MESSAGE
from peer.signaling.relay_url import tls_context
from tests.server.wire import DEADLINE, Peer

HOST = "relay.example"
OTHER = "127.0.0.7"
"""An address of this machine that no proxy has."""


@dataclass(frozen=True)
class Front:
    """Where it is: on loopback, under the name that the examples have."""

    port: int
    cacert: str
    plain: int
    """Its port without TLS."""

    @property
    def url(self) -> str:
        return f"wss://{HOST}:{self.port}/ws"

    @asynccontextmanager
    async def opened(self, **options: Any) -> AsyncIterator[Peer]:
        """A connection from ``OTHER``, with the CA certificates of ``--cacert``."""
        options = {"max_size": None, "ping_interval": None, "local_addr": (OTHER, 0)} | options
        async with connect(self.url, ssl=tls_context(self.cacert), host="127.0.0.1", **options) as ws:
            yield Peer(ws)

    @asynccontextmanager
    async def joined(self, peer_id: str, *, peers: list[str] | None = None, **options: Any) -> AsyncIterator[Peer]:
        async with self.opened(**options) as peer:
            peer.id = peer_id
            await peer.send({"type": "join", "peerId": peer_id, "token": "secret"})
            assert await peer.get() == {"type": "peer-list", "peers": peers or []}
            yield peer

    async def get(self, path: str, *, tls: ssl.SSLContext | None) -> bytes:
        """The answer to a GET, head and body."""
        port = self.plain if tls is None else self.port
        name = {} if tls is None else {"server_hostname": HOST}
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, **name)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), DEADLINE)
        writer.close()
        return answer


async def reaches_the_page(front: Front) -> None:
    """The page comes, with its policy and an order to use TLS from now on."""
    answer = await front.get("/", tls=tls_context(front.cacert))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ") and b"</html>" in body
    assert b"\r\ncontent-security-policy: default-src 'self'" in head.lower()
    assert b"\r\nstrict-transport-security: max-age=31536000" in head.lower()


async def refuses_a_foreign_page(front: Front) -> None:
    """The relay accepts its own page through the proxy, and rejects one of another origin with a hint."""
    with pytest.raises(InvalidStatus) as refused:
        async with front.opened(origin="https://evil.example"):
            pass
    assert refused.value.response.status_code == 403 and b"--allow-origin" in refused.value.response.body
    with pytest.raises(InvalidStatus):
        async with front.opened(origin=f"http://{HOST}:{front.port}"):
            pass
    async with front.opened(
        origin=f"https://{HOST}:{front.port}", additional_headers={"X-Forwarded-Host": "evil.example"}
    ):
        pass


async def sees_who_it_is(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    """The relay has the client's own address, whatever the client says it is."""
    lie = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "evil.example"}
    async with front.joined("liar", additional_headers=lie):
        assert f"+ liar joined from {OTHER} by 127.0.0.1:" in caplog.text
        assert "203.0.113.9" not in caplog.text


async def routes_large_frames(front: Front) -> None:
    """The largest frame there is, both ways, and who leaves is gone at once."""
    async with front.joined("A") as a:
        async with front.joined("B", peers=["A"]) as b:
            assert await a.get() == {"type": "peer-joined", "peerId": "B"}
            for sender, receiver in ((a, b), (b, a)):
                empty = len('{"type": "offer", "from": "A", "to": "B", "sdp": ""}')
                sdp = "x" * (MAX_MESSAGE - empty)
                await sender.send_message("offer", to=receiver.id, sdp=sdp)
                assert (await receiver.get())["sdp"] == sdp
        assert await a.get() == {"type": "peer-left", "peerId": "B"}
