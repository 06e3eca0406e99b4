"""Target: bytes from up to four clients, split anywhere, with delays, stalls and losses, into a complete relay.

    python -m fuzz frames --seconds 60

Properties:

- No exception leaves a callback, and nothing is logged as an error.
- A client's reader holds at most one frame and one read; its incomplete message stays within the limit.
- The relay's output is valid RFC 6455; each text is JSON with a type; ``peer-list`` comes once, and first. Forwarded
  text equals what a client sent, byte for byte. No text follows a close frame.
- A connection stays open, or closes with a code from docs/protocol.md or with the code that the client sent.
- websockets' own ``ServerProtocol``, given the same bytes at once, finds the same messages and the same failure.
- When all clients are gone and the grace is over, the relay is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from server.config import RelayConfig
from server.transport.connection import Client, Phase

from .byte_reader import ByteReader
from .memory_transport import END, RESET, MemoryTransport
from .relay_harness import NO_RATES, OPENING, READ, RelayHarness, relay_target

BEFORE, LIMIT = 1024, 1500
CONFIG = RelayConfig(
    port=0,
    max_frame_before_join=BEFORE,
    max_frame=LIMIT,
    max_send_queue=1024,
    max_seat_queue=300,
    ping_interval=16.0,
    **NO_RATES,
)
CLOSE_CODES: Final = frozenset({1001, 1002, 1007, 4001, 4400, 4401, 4408, 4409, 4429})
"""Close codes in docs/protocol.md."""
SIZES: Final = (0, 1, 125, 126, 127, BEFORE - 1, BEFORE, BEFORE + 1, LIMIT, LIMIT + 1, 65_535, 65_536, 2**32, 2**63)
MESSAGE_TYPES: Final = ("offer", "answer", "candidate", "hang-up", "wave", "join", "peer-list", "error")
SEEDS = [
    b"\x08\0\0\0\x0a\1\0\0\x0c\0\1\1\x0c\4\0\2",
    b"\x08\0\1\0\x1c\0\x09\0\1\0\x08\0\1\0\x0c\0\0",
    b"\x08\0\0\0\x09\0\2\0\x14\0\x15\3",
    b"\x04\x81\x05hello\x04\x01\x03abc\x04\x80\x03def",
    b"\x08\0\0\0\x10\x81\7\xff\x10\x81\x09\x10",
    b"\x08\0\0\0\x09\1\0\0\x19\0\x0c\4\0\1\x0c\4\0\1\x19\1",
    b"\x08\0\2\0\x09\0\3\0\x20\x03\xe8\x24\0",
    b"\x08\0\0\0\x29\x09\0\0\0\x0d\0\1\1\2\x29\x0d\0\1\1\2\x20\x03\xe8\0",
    b"\x08\0\0\0\x10\1\x09\xff\x04\x80\3abc\0\0",
    b"\x08\0\0\0\x10\1\7\xff\x10\0\7\xff\x10\0\7\xff\x04\x80\3abc\0\0",
    b"\x08\0\0\0\x19\0" + (b"\x25\0\x7d" + bytes(125)) * 8 + b"\x09\1\0\0",
]


def _play(harness: RelayHarness, reader: ByteReader) -> None:
    everybody: list[tuple[Client, MemoryTransport]] = []
    seats: dict[int, tuple[Client, MemoryTransport]] = {}
    for _ in range(60):
        if not reader.left:
            break
        what = reader.number()
        seat, what = what % 4, what // 4 % 11
        if seat not in seats or seats[seat][1].lost:
            seats[seat] = harness.connect()
            everybody.append(seats[seat])
            harness.run(seats[seat][1].feed, OPENING)
        _step(harness, reader, seat, what, *seats[seat])
        for client, _ in everybody:
            _check_memory(client)
    harness.turn()
    sent = {text for received in harness.recorder.received.values() for kind, text in received if kind == "text"}
    for client, transport in everybody:
        _check_written(bytes(transport.written), sent, _own_close(transport))
        _check_reading(harness.recorder.received.get(client, []), client, transport)
    harness.clear()


def _step(
    harness: RelayHarness, reader: ByteReader, seat: int, what: int, client: Client, transport: MemoryTransport
) -> None:
    match what:
        case 0:
            harness.run(transport.feed, reader.chunk())
        case 1:  # a frame of any opcode, split into pieces of any size
            frame, size = masked(reader.number(), reader.chunk()), reader.number() % 16 + 1
            for at in range(0, len(frame), size if reader.number() % 2 else len(frame)):
                harness.run(transport.feed, frame[at : at + size] if size < len(frame) else frame)
        case 2:
            join = {
                "type": "join",
                "peerId": reader.pick("abc"),
                "key": reader.pick((None, "k", "l", "\ud800", "é")),
                "room": reader.pick(("", "", "attic")),
                "instance": reader.pick((None, "1", "1", "2", "\ud800")),
            }
            harness.run(transport.feed, text(join))
        case 3:
            body = {
                "type": reader.pick(MESSAGE_TYPES),
                "from": reader.pick((harness.relay.sessions.rooms.name(client), "a", None, 5)),
                "to": reader.pick(("a", "b", "c", None, "", "nobody", 5)),
                "n": "é" * (reader.number() * 3),
            }
            harness.run(transport.feed, text({key: value for key, value in body.items() if value is not None}))
        case 4:  # a header that announces a large payload
            head, size = reader.number(), reader.pick(SIZES)
            harness.run(transport.feed, masked_head(head, size) + bytes(min(size, reader.number() * 8)))
        case 5:
            harness.wait(reader.pick((0.001, 1.0, 2.0, 5.0, 10.0, 16.0)))
        case 6:
            harness.run(transport.resume if reader.number() % 2 else transport.stall)
        case 7:
            harness.run(transport.feed, RESET if reader.number() % 2 else END)
        case 8:
            harness.run(transport.feed, masked(0x88, reader.take(2) + reader.chunk()))
        case 10:
            harness.run(transport.cork)
        case _:
            harness.run(transport.feed, masked(reader.pick((0x89, 0x8A)), reader.chunk()[:125]))


def masked_head(head: int, size: int) -> bytes:
    if size < 126:
        return bytes((head, 0x80 | size, 1, 2, 3, 4))
    long = size >= 65_536
    return bytes((head, 0xFF if long else 0xFE)) + size.to_bytes(8 if long else 2) + bytes((1, 2, 3, 4))


def masked(head: int, payload: bytes) -> bytes:
    return masked_head(head, len(payload)) + bytes(byte ^ (1, 2, 3, 4)[n % 4] for n, byte in enumerate(payload))


def text(body: dict[str, Any]) -> bytes:
    return masked(0x81, json.dumps(body).encode())


# --- properties ---------------------------------------------------------------------------------------------------


def _check_memory(client: Client) -> None:
    reader = client._frames
    assert len(reader.buffer) <= reader.limit + 14 + READ
    if client.phase is not Phase.CLAIMING and not client._discards_input:
        assert len(reader.buffer) - reader._pos <= reader.limit + 14, "a complete frame was not processed"
    assert len(client._assembler) <= reader.limit
    assert client.queued <= CONFIG.max_send_queue + 127, "the final close frame is always queued"


def frames_of(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Parse the relay's output strictly by RFC 6455 (unfragmented), or raise AssertionError."""
    at = 0
    while at < len(data):
        opcode, length = data[at] & 0x0F, data[at + 1]
        assert data[at] & 0xF0 == 0x80 and opcode in (1, 8, 9, 10) and length < 128
        at += 2
        if length >= 126:
            size, least = (2, 126) if length == 126 else (8, 65_536)
            length = int.from_bytes(data[at : at + size])
            assert length >= least and opcode == 1
            at += size
        assert at + length <= len(data), "a truncated frame"
        yield opcode, data[at : at + length]
        at += length


def _check_written(data: bytes, sent: set[bytes], own_close: bytes | None) -> None:
    head, _, frames = data.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    listed = closed = False
    for opcode, payload in frames_of(frames):
        if opcode == 8:
            assert not closed, "closed twice"
            closed = True
            assert payload == own_close or int.from_bytes(payload[:2]) in CLOSE_CODES, payload
            payload[2:].decode()
        elif opcode == 1:
            assert not closed, "a message after the close frame"
            body = json.loads(payload.decode())
            assert isinstance(body["type"], str)
            if body["type"] == "peer-list":
                assert not listed and len(set(body["peers"])) == len(body["peers"])
                listed = True
            elif body["type"] not in ("peer-joined", "peer-left", "error"):
                assert payload in sent, "no client sent this"
            assert listed or body["type"] == "error"


def _own_close(transport: MemoryTransport) -> bytes | None:
    """Return the payload of the client's close frame, if websockets finds one."""
    reference = ServerProtocol(state=OPEN, max_size=None)
    reference.receive_data(bytes(transport.fed[len(OPENING) :]))
    for frame in reference.events_received():
        if isinstance(frame, Frame) and frame.opcode is Opcode.CLOSE:
            return bytes(frame.data)
    return None


def _check_reading(received: list[tuple[str, bytes]], client: Client, transport: MemoryTransport) -> None:
    """Compare with websockets, which gets the same bytes at once."""
    reference = ServerProtocol(state=OPEN, max_size=None)
    reference.receive_data(bytes(transport.fed[len(OPENING) :]))
    expected: list[tuple[str, bytes]] = []
    message, binary = b"", False
    for frame in reference.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode >= 8:
            continue
        if frame.opcode is not Opcode.CONT:
            message, binary = b"", frame.opcode is Opcode.BINARY
        message += frame.data
        if frame.fin:
            limit = LIMIT if expected else BEFORE
            kind = "too-large" if len(message) > limit else "bad-message" if binary else "text"
            expected.append((kind, message if kind == "text" else b""))
    # a message over the limit is rejected at its header, long before websockets has all of it
    assert received == expected[: len(received)] or received == [*expected, ("too-large", b"")], (
        "differs from websockets"
    )
    failure = reference.close_sent.code if reference.parser_exc is not None and reference.close_sent else None
    if client.phase is Phase.CLOSING:
        code = next((int.from_bytes(data[:2]) for op, data in frames_of(_frames(transport)) if op == 8), None)
        echo = reference.close_rcvd is not None and reference.parser_exc is None
        if code in (1002, 1007) and not echo:
            incomplete = failure is None and _ends_in_a_long_frame(transport)
            invalid = code == 1007 and _has_invalid_text(expected)
            assert failure == code or incomplete or invalid, (failure, code)
    elif client.phase is not Phase.CLAIMING:
        assert failure is None, "websockets would have closed it"
        assert len(received) >= len(expected), "websockets reads more messages"
        assert not transport.unread, "the relay stopped reading"


def _frames(transport: MemoryTransport) -> bytes:
    return bytes(transport.written).partition(b"\r\n\r\n")[2]


def _has_invalid_text(messages: list[tuple[str, bytes]]) -> bool:
    """Whether a text message is not UTF-8; websockets leaves that to its caller."""
    try:
        b"\n".join(data for kind, data in messages if kind == "text").decode()
    except UnicodeDecodeError:
        return True
    return False


def _ends_in_a_long_frame(transport: MemoryTransport) -> bool:
    """Whether the input ends in an incomplete invalid frame: websockets reports it only when it is complete."""
    data, at = bytes(transport.fed[len(OPENING) :]), 0
    while at + 1 < len(data):
        size = {126: 2, 127: 8}.get(data[at + 1] & 127, 0)
        length = int.from_bytes(data[at + 2 : at + 2 + size]) if size else data[at + 1] & 127
        if at + 2 + size + 4 + length > len(data):
            return length > (125 if data[at] & 8 else BEFORE)
        at += 2 + size + 4 + length
    return False


test_one, close = relay_target(CONFIG, _play)
