"""Octets of up to four clients against a whole relay, in whatever pieces, with time, stalls and losses in between.

    python -m fuzz frames --seconds 60

What must hold:

- No exception leaves a callback, and nothing is logged as an error.
- A client's reader holds one frame and one read at most; its message under way is within the limit.
- What the relay writes is RFC 6455, each text is JSON with a type, a ``peer-list`` comes once, and first of all. What
  was forwarded is what somebody sent, byte for byte. After a close frame there is no text.
- A connection lives, or ends with a close code of docs/protocol.md or with its own.
- websockets' own ``ServerProtocol``, given the same octets at once, finds the same messages and the same failure.
- When all have gone and the grace is over, the relay is empty.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from server.client import Client, Phase
from server.config import RelayConfig

from .octets import Octets
from .stage import NO_RATES, OPENING, READ, Stage, on_stage
from .wire import END, RESET, Wire

BEFORE, LIMIT = 1024, 1500
CONFIG = RelayConfig(
    port=0,
    max_frame_before_join=BEFORE,
    max_frame=LIMIT,
    outbox=1024,
    queue=300,
    ping_interval=16.0,
    **NO_RATES,
)
CLOSE_CODES: Final = frozenset({1001, 1002, 1007, 4001, 4400, 4401, 4408, 4409, 4429})
"""Those of docs/protocol.md."""
SIZES: Final = (0, 1, 125, 126, 127, BEFORE - 1, BEFORE, BEFORE + 1, LIMIT, LIMIT + 1, 65_535, 65_536, 2**32, 2**63)
TYPES: Final = ("offer", "answer", "candidate", "hang-up", "wave", "join", "peer-list", "error")
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


def _play(stage: Stage, octets: Octets) -> None:
    everybody: list[tuple[Client, Wire]] = []
    seats: dict[int, tuple[Client, Wire]] = {}
    for _ in range(60):
        if not octets.left:
            break
        what = octets.number()
        seat, what = what % 4, what // 4 % 11
        if seat not in seats or seats[seat][1].lost:
            seats[seat] = stage.connect()
            everybody.append(seats[seat])
            stage.run(seats[seat][1].feed, OPENING)
        _step(stage, octets, seat, what, *seats[seat])
        for client, _ in everybody:
            _check_memory(client)
    stage.turn()
    sent = {octets for said in stage.relay.said.values() for kind, octets in said if kind == "text"}
    for client, wire in everybody:
        _check_written(bytes(wire.written), sent, _own_close(wire))
        _check_reading(stage.relay.said.get(client, []), client, wire)
    stage.clear()


def _step(stage: Stage, octets: Octets, seat: int, what: int, client: Client, wire: Wire) -> None:
    match what:
        case 0:
            stage.run(wire.feed, octets.chunk())
        case 1:  # a frame of any kind, in pieces of any size
            frame, size = masked(octets.number(), octets.chunk()), octets.number() % 16 + 1
            for at in range(0, len(frame), size if octets.number() % 2 else len(frame)):
                stage.run(wire.feed, frame[at : at + size] if size < len(frame) else frame)
        case 2:
            join = {
                "type": "join",
                "peerId": octets.pick("abc"),
                "key": octets.pick((None, "k", "l", "\ud800", "é")),
                "room": octets.pick(("", "", "attic")),
            }
            stage.run(wire.feed, text(join))
        case 3:
            body = {
                "type": octets.pick(TYPES),
                "from": octets.pick((stage.relay._rooms.name(client), "a", None, 5)),
                "to": octets.pick(("a", "b", "c", None, "", "nobody", 5)),
                "n": "é" * (octets.number() * 3),
            }
            stage.run(wire.feed, text({key: value for key, value in body.items() if value is not None}))
        case 4:  # a head that promises much
            head, size = octets.number(), octets.pick(SIZES)
            stage.run(wire.feed, masked_head(head, size) + bytes(min(size, octets.number() * 8)))
        case 5:
            stage.wait(octets.pick((0.001, 1.0, 2.0, 5.0, 10.0, 16.0)))
        case 6:
            stage.run(wire.resume if octets.number() % 2 else wire.stall)
        case 7:
            stage.run(wire.feed, RESET if octets.number() % 2 else END)
        case 8:
            stage.run(wire.feed, masked(0x88, octets.take(2) + octets.chunk()))
        case 10:
            stage.run(wire.cork)
        case _:
            stage.run(wire.feed, masked(octets.pick((0x89, 0x8A)), octets.chunk()[:125]))


def masked_head(head: int, size: int) -> bytes:
    if size < 126:
        return bytes((head, 0x80 | size, 1, 2, 3, 4))
    long = size >= 65_536
    return bytes((head, 0xFF if long else 0xFE)) + size.to_bytes(8 if long else 2) + bytes((1, 2, 3, 4))


def masked(head: int, payload: bytes) -> bytes:
    return masked_head(head, len(payload)) + bytes(octet ^ (1, 2, 3, 4)[n % 4] for n, octet in enumerate(payload))


def text(body: dict[str, Any]) -> bytes:
    return masked(0x81, json.dumps(body).encode())


# --- what must hold -----------------------------------------------------------------------------------------------


def _check_memory(client: Client) -> None:
    reader = client._frames
    assert len(reader.held) <= reader.limit + 14 + READ
    if client.phase is not Phase.CLAIMING and not client._deaf:
        assert len(reader.held) - reader._pos <= reader.limit + 14, "a whole frame was left lying"
    assert len(client._message) <= reader.limit
    assert client.waiting <= CONFIG.outbox + 127, "the last one, a close frame, is always taken"


def frames_of(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """What a server sent: strictly RFC 6455, or AssertionError. Nothing is in fragments."""
    at = 0
    while at < len(octets):
        opcode, length = octets[at] & 0x0F, octets[at + 1]
        assert octets[at] & 0xF0 == 0x80 and opcode in (1, 8, 9, 10) and length < 128
        at += 2
        if length >= 126:
            size, least = (2, 126) if length == 126 else (8, 65_536)
            length = int.from_bytes(octets[at : at + size])
            assert length >= least and opcode == 1
            at += size
        assert at + length <= len(octets), "a frame was cut"
        yield opcode, octets[at : at + length]
        at += length


def _check_written(octets: bytes, sent: set[bytes], own_close: bytes | None) -> None:
    head, _, frames = octets.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    listed = closed = False
    for opcode, payload in frames_of(frames):
        if opcode == 8:
            assert not closed, "closed twice"
            closed = True
            assert payload == own_close or int.from_bytes(payload[:2]) in CLOSE_CODES, payload
            payload[2:].decode()
        elif opcode == 1:
            assert not closed, "a message after the goodbye"
            body = json.loads(payload.decode())
            assert isinstance(body["type"], str)
            if body["type"] == "peer-list":
                assert not listed and len(set(body["peers"])) == len(body["peers"])
                listed = True
            elif body["type"] not in ("peer-joined", "peer-left", "error"):
                assert payload in sent, "nobody said that"
            assert listed or body["type"] == "error"


def _own_close(wire: Wire) -> bytes | None:
    """The payload of the close frame that the client sent, if websockets sees one."""
    reference = ServerProtocol(state=OPEN, max_size=None)
    reference.receive_data(bytes(wire.fed[len(OPENING) :]))
    for frame in reference.events_received():
        if isinstance(frame, Frame) and frame.opcode is Opcode.CLOSE:
            return bytes(frame.data)
    return None


def _check_reading(said: list[tuple[str, bytes]], client: Client, wire: Wire) -> None:
    """Against websockets, which gets the same octets at once."""
    reference = ServerProtocol(state=OPEN, max_size=None)
    reference.receive_data(bytes(wire.fed[len(OPENING) :]))
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
    # what is too large is refused at its head, long before websockets has it all
    assert said == expected[: len(said)] or said == [*expected, ("too-large", b"")], "not what websockets reads"
    failure = reference.close_sent.code if reference.parser_exc is not None and reference.close_sent else None
    if client.phase is Phase.CLOSING:
        code = next((int.from_bytes(octets[:2]) for op, octets in frames_of(_frames(wire)) if op == 8), None)
        echo = reference.close_rcvd is not None and reference.parser_exc is None
        if code in (1002, 1007) and not echo:
            assert failure == code or (failure is None and _ends_in_a_long_frame(wire)), (failure, code)
    elif client.phase is not Phase.CLAIMING:
        assert failure is None, "websockets would have ended it"
        assert len(said) >= len(expected), "websockets reads more"
        assert not wire.unread, "it does not read any more"


def _frames(wire: Wire) -> bytes:
    return bytes(wire.written).partition(b"\r\n\r\n")[2]


def _ends_in_a_long_frame(wire: Wire) -> bool:
    """websockets wants all of it before it says what is wrong with it."""
    octets, at = bytes(wire.fed[len(OPENING) :]), 0
    while at + 1 < len(octets):
        size = {126: 2, 127: 8}.get(octets[at + 1] & 127, 0)
        length = int.from_bytes(octets[at + 2 : at + 2 + size]) if size else octets[at + 1] & 127
        if at + 2 + size + 4 + length > len(octets):
            return length > (125 if octets[at] & 8 else BEFORE)
        at += 2 + size + 4 + length
    return False


test_one, close = on_stage(CONFIG, _play)
