"""Depacketization of VP8, H.264 and audio, from our packetizer and from other senders."""

from __future__ import annotations

import pytest
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.depacketizer import depacketize
from peer.rtp.packetizer import packetize

UNIT = st.tuples(st.sampled_from([0x65, 0x41, 0x67, 0x68, 0x06]), st.binary(min_size=2, max_size=4000)).map(
    lambda unit: bytes([unit[0]]) + unit[1].replace(b"\0", b"\1")
)


@given(st.lists(UNIT, min_size=1, max_size=6), st.sampled_from([0, 1]))
def test_h264_access_unit_survives_packetization(units: list[bytes], packetization_mode: int) -> None:
    access_unit = b"".join(b"\0\0\0\1" + unit for unit in units)
    parsed = [depacketize("h264", data) for data in packetize("h264", access_unit, packetization_mode)]
    assert b"".join(part.data for part in parsed) == access_unit
    assert any(part.key_frame for part in parsed) == any(unit[0] & 0x1F in (5, 7) for unit in units)


@given(st.binary(min_size=1, max_size=4000))
def test_vp8_frame_survives_packetization(frame: bytes) -> None:
    parsed = [depacketize("vp8", data) for data in packetize("vp8", frame)]
    assert b"".join(part.data for part in parsed) == frame
    assert [part.starts_frame for part in parsed] == [True] + [False] * (len(parsed) - 1)
    assert parsed[0].key_frame is not bool(frame[0] & 1)
    assert not any(part.key_frame for part in parsed[1:])


@given(
    st.none() | st.integers(128, 2**15 - 1),
    st.none() | st.integers(0, 255),
    st.none() | st.tuples(st.integers(0, 3), st.integers(0, 1)),
    st.none() | st.integers(0, 31),
)
def test_vp8_descriptors_of_other_senders_are_stripped(
    picture: int | None, tl0: int | None, tid: tuple[int, int] | None, key: int | None
) -> None:
    descriptor = VpxPayloadDescriptor(1, 0, picture_id=picture, tl0picidx=tl0, tid=tid, keyidx=key)
    assert depacketize("vp8", bytes(descriptor) + b"\x10abc") == (b"\x10abc", True, True)


def test_vp8_short_picture_id_is_stripped() -> None:
    assert depacketize("vp8", b"\x90\x80\x05\x11abc") == (b"\x11abc", True, False)


@pytest.mark.parametrize(
    ("data", "starts", "key"),
    [
        (b"\x67\x42", True, True),  # parameter set
        (b"\x09\xf0", True, False),  # delimiter
        (b"\x41\x9a", True, False),  # slice from the first macroblock
        (b"\x41\x1a", False, False),  # slice from a later one
        (b"\x65\x88", False, True),  # IDR: parameter sets may precede it
        (b"\x18\x00\x02\x67\x42\x00\x02\x65\x88", True, True),  # STAP-A
        (b"\x7c\x85\x88", False, True),  # FU-A of an IDR
        (b"\x7c\x81\x9a", True, False),  # FU-A of a slice
        (b"\x7c\x01\x9a", False, False),  # a middle fragment
    ],
)
def test_h264_start_of_frame_and_key_frame_are_detected(data: bytes, starts: bool, key: bool) -> None:
    part = depacketize("h264", data)
    assert (part.starts_frame, part.key_frame) == (starts, key)


@pytest.mark.parametrize(
    ("codec", "data"),
    [("vp8", b"\x80"), ("vp8", b"\x80\x80"), ("h264", b"\x7c"), ("h264", b"\x18\x00\x09\x67"), ("h264", b"\x1d\x00")],
)
def test_malformed_or_not_negotiated_payload_raises(codec: str, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"truncated|packetization"):
        depacketize(codec, data)


@given(st.sampled_from(["vp8", "h264", "opus"]), st.binary(max_size=60))
def test_arbitrary_payload_returns_or_raises(codec: str, data: bytes) -> None:
    try:
        part = depacketize(codec, data)
    except ValueError:
        return
    assert len(part.data) <= 4 * len(data) + 4


def test_padding_yields_no_data_and_audio_is_unchanged() -> None:
    assert depacketize("h264", b"") == (b"", False, False)
    assert depacketize("opus", b"\xfc") == (b"\xfc", True, True)
