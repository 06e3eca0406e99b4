"""Messages in several frames: complete, too large, binary, and one after the other."""

from __future__ import annotations

import pytest
from websockets.frames import Frame, Opcode

from server.transport.message_assembler import Assembled, MessageAssembler

LIMIT = 10


def frame(data: bytes, opcode: Opcode = Opcode.CONT, *, fin: bool = False) -> Frame:
    return Frame(opcode, data, fin=fin)


def test_message_in_three_frames_is_returned_with_the_last() -> None:
    assembler = MessageAssembler()
    assert assembler.add(frame(b"ab", Opcode.TEXT), LIMIT) is None
    assert assembler.add(frame(b"cd"), LIMIT) is None and len(assembler) == 4
    assert assembler.add(frame(b"ef", fin=True), LIMIT) == Assembled(b"abcdef")
    assert len(assembler) == 0


@pytest.mark.parametrize("parts", [(b"12345", b"678901"), (b"12345678901", b""), (b"1", b"1", b"123456789")])
def test_message_over_the_limit_is_rejected_and_not_held(parts: tuple[bytes, ...]) -> None:
    assembler = MessageAssembler()
    first, *rest = parts
    assert assembler.add(frame(first, Opcode.TEXT), LIMIT) is None
    for part in rest[:-1]:
        assert assembler.add(frame(part), LIMIT) is None
    assert len(assembler) <= LIMIT
    message = assembler.add(frame(rest[-1], fin=True), LIMIT)
    assert message is not None and message.rejection == ("too-large", "the message is larger than 10 bytes")


def test_frame_without_its_payload_makes_the_message_too_large() -> None:
    assembler = MessageAssembler()
    assert assembler.add(frame(b"", Opcode.TEXT), LIMIT, too_large=True) is None
    message = assembler.add(frame(b"a", fin=True), LIMIT)
    assert message is not None and message.rejection is not None and message.rejection[0] == "too-large"
    assert assembler.add(frame(b"next", Opcode.TEXT, fin=True), LIMIT) == Assembled(b"next")


def test_binary_message_is_rejected_when_it_is_complete() -> None:
    assembler = MessageAssembler()
    assert assembler.add(frame(b"a", Opcode.BINARY), LIMIT) is None
    message = assembler.add(frame(b"b", fin=True), LIMIT)
    assert message == Assembled(rejection=("bad-message", "messages must be text, not binary"))


def test_discarded_parts_are_released() -> None:
    assembler = MessageAssembler()
    assembler.add(frame(b"abc", Opcode.TEXT), LIMIT)
    assembler.discard()
    assert len(assembler) == 0
