"""Payloads, as senders cut them, are put together again."""

from __future__ import annotations

import pytest
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp import depacketizer
from peer.rtp.packetizer import payloads

UNIT = st.tuples(st.sampled_from([0x65, 0x41, 0x67, 0x68, 0x06]), st.binary(min_size=2, max_size=4000)).map(
    lambda unit: bytes([unit[0]]) + unit[1].replace(b"\0", b"\1")
)


@given(st.lists(UNIT, min_size=1, max_size=6))
def test_h264_comes_out_as_it_was(units: list[bytes]) -> None:
    access_unit = b"".join(b"\0\0\0\1" + unit for unit in units)
    pieces = [depacketizer.read("h264", data) for data in payloads("h264", access_unit)]
    assert b"".join(piece.data for piece in pieces) == access_unit
    assert any(piece.key for piece in pieces) == any(unit[0] & 0x1F in (5, 7) for unit in units)


@given(st.binary(min_size=1, max_size=4000))
def test_vp8_comes_out_as_it_was(frame: bytes) -> None:
    pieces = [depacketizer.read("vp8", data) for data in payloads("vp8", frame)]
    assert b"".join(piece.data for piece in pieces) == frame
    assert [piece.starts for piece in pieces] == [True] + [False] * (len(pieces) - 1)
    assert pieces[0].key is not bool(frame[0] & 1)
    assert not any(piece.key for piece in pieces[1:])


@given(
    st.none() | st.integers(128, 2**15 - 1),
    st.none() | st.integers(0, 255),
    st.none() | st.tuples(st.integers(0, 3), st.integers(0, 1)),
    st.none() | st.integers(0, 31),
)
def test_descriptors_of_other_senders_are_taken_off(
    picture: int | None, tl0: int | None, tid: tuple[int, int] | None, key: int | None
) -> None:
    descriptor = VpxPayloadDescriptor(1, 0, picture_id=picture, tl0picidx=tl0, tid=tid, keyidx=key)
    assert depacketizer.read("vp8", bytes(descriptor) + b"\x10abc") == (b"\x10abc", True, True)


def test_a_short_picture_id_is_taken_off() -> None:
    assert depacketizer.read("vp8", b"\x90\x80\x05\x11abc") == (b"\x11abc", True, False)


@pytest.mark.parametrize(
    ("data", "starts", "key"),
    [
        (b"\x67\x42", True, True),  # parameter set
        (b"\x09\xf0", True, False),  # delimiter
        (b"\x41\x9a", True, False),  # slice from the first macroblock
        (b"\x41\x1a", False, False),  # slice from a later one
        (b"\x65\x88", False, True),  # IDR: its parameter sets may have been before it
        (b"\x18\x00\x02\x67\x42\x00\x02\x65\x88", True, True),  # STAP-A
        (b"\x7c\x85\x88", False, True),  # FU-A of an IDR
        (b"\x7c\x81\x9a", True, False),  # FU-A of a slice
        (b"\x7c\x01\x9a", False, False),  # its middle
    ],
)
def test_h264_tells_where_a_picture_begins_as_far_as_it_does(data: bytes, starts: bool, key: bool) -> None:
    piece = depacketizer.read("h264", data)
    assert (piece.starts, piece.key) == (starts, key)


@pytest.mark.parametrize(
    ("codec", "data"),
    [("vp8", b"\x80"), ("vp8", b"\x80\x80"), ("h264", b"\x7c"), ("h264", b"\x18\x00\x09\x67"), ("h264", b"\x1d\x00")],
)
def test_what_is_damaged_or_was_not_negotiated_is_refused(codec: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut short|packetization"):
        depacketizer.read(codec, data)


@given(st.sampled_from(["vp8", "h264", "opus"]), st.binary(max_size=60))
def test_octets_of_a_stranger_are_read_or_refused(codec: str, data: bytes) -> None:
    try:
        piece = depacketizer.read(codec, data)
    except ValueError:
        return
    assert len(piece.data) <= 4 * len(data) + 4


def test_padding_holds_nothing_and_sound_itself() -> None:
    assert depacketizer.read("h264", b"") == (b"", False, False)
    assert depacketizer.read("opus", b"\xfc") == (b"\xfc", True, True)
