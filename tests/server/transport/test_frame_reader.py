"""The frame reader compared with websockets' parser: the same frames, however the data is cut.

Except for the payload of pongs, which the reader does not return.
"""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from server.transport.frame_reader import FrameReader, Kind, text_frame

LIMIT = 200

sizes = st.sampled_from([0, 1, 5, 125, 126, 127, 199, 200, 201, 1000, 70_000])
payloads = sizes.map(lambda size: bytes(i % 251 for i in range(size)))
frames = st.builds(
    Frame,
    st.sampled_from([Opcode.TEXT, Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG]),
    payloads,
    st.booleans(),
).filter(lambda frame: frame.opcode < 8 or (frame.fin and len(frame.data) <= 125))


def read(pieces: list[bytes]) -> tuple[list[tuple[int, bytes, bool]], int | None]:
    """Read ``pieces`` with the reader and websockets. Returns the frames, and the close code after a failure."""
    reader, protocol = FrameReader(LIMIT), ServerProtocol(state=OPEN, max_size=None)
    out: list[tuple[int, bytes, bool]] = []
    for piece in pieces:
        reader.feed(piece)
        while protocol.close_sent is None and (found := reader.pull()) is not None:
            kind, data = found
            if kind is Kind.TEXT:
                out.append((1, data, True))
                continue
            if kind is Kind.PONG:
                out.append((10, b"", True))
                continue
            protocol.receive_data(data)
            out += [(f.opcode, bytes(f.data), f.fin) for f in protocol.events_received() if isinstance(f, Frame)]
    return out, protocol.close_sent.code if protocol.close_sent else None


def reference(data: bytes) -> tuple[list[tuple[int, bytes, bool]], int | None]:
    protocol = ServerProtocol(state=OPEN, max_size=None)
    protocol.receive_data(data)
    out: list[tuple[int, bytes, bool]] = []
    for frame in protocol.events_received():
        assert isinstance(frame, Frame)
        shown = len(frame.data) <= LIMIT and frame.opcode is not Opcode.PONG
        out.append((frame.opcode, bytes(frame.data) if shown else b"", frame.fin))
    return out, protocol.close_sent.code if protocol.close_sent else None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if a < b]


@given(st.lists(frames, max_size=6), st.lists(st.integers(0, 1 << 20), max_size=20))
def test_frames_equal_those_of_websockets_however_cut(sent: list[Frame], places: list[int]) -> None:
    data = b"".join(frame.serialize(mask=True) for frame in sent)
    assert read(cut(data, places)) == reference(data)


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=10))
def test_noise_fails_as_with_websockets(data: bytes, places: list[int]) -> None:
    got, code = read(cut(data, places))
    expected, expected_code = reference(data)
    if expected_code is None:  # websockets waits for a payload that the reader has discarded
        assert got[: len(expected)] == expected
    else:
        assert (got, code) == (expected, expected_code)


def test_single_bytes_make_a_frame() -> None:
    data = Frame(Opcode.TEXT, b"x" * 150).serialize(mask=True)
    assert read([bytes([byte]) for byte in data]) == ([(1, b"x" * 150, True)], None)


def test_limit_may_change_within_one_read() -> None:
    reader = FrameReader(10)
    reader.feed(2 * Frame(Opcode.TEXT, b"x" * 11).serialize(mask=True))
    assert reader.pull() == (Kind.TOO_LARGE, bytes((0x81, 0x80)) + bytes(4))
    reader.limit = 11
    assert reader.pull() == (Kind.TEXT, b"x" * 11)
    assert reader.pull() is None


def test_text_within_a_fragmented_message_goes_to_websockets() -> None:
    first = Frame(Opcode.TEXT, b"a", False).serialize(mask=True)
    second = Frame(Opcode.TEXT, b"b", True).serialize(mask=True)
    assert read([first + second]) == ([(1, b"a", False)], 1002)


@given(sizes)
def test_text_frames_equal_those_of_websockets(size: int) -> None:
    text = b"x" * size
    assert text_frame(text) == Frame(Opcode.TEXT, text).serialize(mask=False)
