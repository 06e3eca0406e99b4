"""Target: the first bytes of a connection: HTTP, the page, the WebSocket handshake, origins, proxies.

    python -m fuzz opening --seconds 60

Properties: no output yet, or one complete response and a close, or a WebSocket; in the last case websockets' own
``ServerProtocol`` accepts the same request. At most one request head and one read are buffered. An accepted origin is
local, or is the host that the request names.
"""

from __future__ import annotations

from typing import Final

from websockets.http11 import Request as Opening
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from server.config import MAX_HEAD, RelayConfig
from server.transport.connection import Client, Phase

from .byte_reader import ByteReader
from .memory_transport import END
from .relay_harness import NO_RATES, OPENING, READ, RelayHarness, relay_target

CONFIG: Final = RelayConfig(port=0, trust_proxies=("198.51.100.0/24",), token="hush", **NO_RATES)
LINES: Final = (
    b"Host: localhost",
    b"Upgrade: websocket",
    b"Connection: Upgrade",
    b"Connection: keep-alive, Upgrade",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Key: short",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Version: 8",
    b"Sec-WebSocket-Protocol: a, b",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
    b"Origin: http://localhost",
    b"Origin: https://evil.example",
    b"Origin: null",
    b"X-Forwarded-For: 203.0.113.9, 198.51.100.2",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: evil.example",
    b"Content-Length: 5",
    b"Transfer-Encoding: chunked",
)
TARGETS: Final = (b"/ws", b"/", b"/healthz", b"/nope", b"http://h/ws?x=/y", b"*", b"/ws?room=a", b"//ws", b"/%77s")
METHODS: Final = (b"GET", b"HEAD", b"POST", b"OPTIONS", b"get", b"CONNECT")


def _seed(how: int, trusted: int, *lines: int) -> bytes:
    return bytes((how, trusted, 0, 0, 0, len(lines), *(byte for line in lines for byte in (0, line))))


SEEDS = [
    b"\0\0" + OPENING,
    b"\1\1GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\4\0\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    _seed(2, 0, 0, 1, 2, 4, 6),
    _seed(3, 0, 0, 1, 3, 4, 6, 9, 10),
    _seed(2, 0, 0, 1, 2, 4, 6, 11),
    _seed(2, 1, 0, 1, 2, 4, 6, 11, 13, 14, 15),
    _seed(7, 1, 0, 1, 2, 4, 6, 8, 12, 13),
]


def _play(harness: RelayHarness, reader: ByteReader) -> None:
    how, trusted = reader.number(), reader.number() % 2 == 1
    head = _request(reader) if how & 2 else reader.rest()
    client, transport = harness.connect("198.51.100.7" if trusted else "192.0.2.1")
    size = 1 + how // 4 if how & 1 else len(head)
    for at in range(0, len(head), max(size, 1)):
        harness.run(transport.feed, head[at : at + size])
        assert len(client._head) <= MAX_HEAD + READ
    response = bytes(transport.written)
    if response.startswith(b"HTTP/1.1 101 "):
        _check_welcome(client, head, trusted=trusted)
    elif response:
        assert transport.half_closed and client._discards_input, "the relay stops reading"
        assert response.startswith(b"HTTP/1.1 ") and response.endswith(_body(response))
    else:
        assert client.phase is Phase.HEAD and b"\r\n\r\n" not in head and len(head) <= MAX_HEAD
        harness.run(transport.feed, END)
        harness.turn()
        assert transport.lost
    harness.clear()


def _request(reader: ByteReader) -> bytes:
    line = b" ".join((reader.pick(METHODS), reader.pick(TARGETS), reader.pick((b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2"))))
    lines = [reader.chunk() if reader.number() % 8 == 7 else reader.pick(LINES) for _ in range(reader.number() % 16)]
    return b"\r\n".join([line, *lines, b"", reader.rest()])


def _body(response: bytes) -> bytes:
    head, _, body = response.partition(b"\r\n\r\n")
    (length,) = (line[16:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
    assert len(body) in (int(length), 0), "the announced length, or empty for HEAD"
    return body


def _check_welcome(client: Client, head: bytes, *, trusted: bool) -> None:
    head = head[: head.index(b"\r\n\r\n") + 4]
    reference = ServerProtocol(max_size=None, extensions=None)
    reference.receive_data(head)
    (opening,) = reference.events_received()
    assert isinstance(opening, Opening)
    reference.send_response(reference.accept(opening))
    assert reference.state is OPEN, "websockets would have rejected it"
    headers = opening.headers
    if not trusted:
        assert client.host == "192.0.2.1" and not client.secure, "the client set its own address"
    origins = headers.get_all("Origin")
    assert len(origins) <= 1
    for origin in origins:
        here = origin.lower().partition("://")[2].rstrip("0123456789").rstrip(":")
        hosts = [host.lower() for name in ("Host", "X-Forwarded-Host") for host in headers.get_all(name)]
        local = here in ("localhost", "[::1]") or here.endswith(".localhost") or here.startswith("127.")
        assert local or any(here in host for host in hosts), "a foreign website"


test_one, close = relay_target(CONFIG, _play)
