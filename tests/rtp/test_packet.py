"""Parsing of RTP packets: the same fields as the engine writes, and rejection of everything else."""

from __future__ import annotations

from typing import Any

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.packet import Packet, parse

ABS_SEND_TIME = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"
MID = "urn:ietf:params:rtp-hdrext:sdes:mid"


def extensions(abs_send_time: int, mid: int) -> HeaderExtensionsMap:
    made = HeaderExtensionsMap()
    named = {ABS_SEND_TIME: abs_send_time, MID: mid}
    made.configure(
        RTCRtpParameters(
            headerExtensions=[RTCRtpHeaderExtensionParameters(id=n, uri=uri) for uri, n in named.items()]
        )
    )
    return made


@given(
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.binary(max_size=40),
    st.integers(0, 20),
    st.none() | st.integers(0, 2**24 - 1),
    st.none() | st.text("abc", min_size=1, max_size=20),  # longer than 16 requires the two-byte form
    st.lists(st.integers(0, 2**32 - 1), max_size=3),
)
def test_parse_reads_what_the_engine_writes(
    number: int, timestamp: int, marker: bool, data: bytes, padding: int, sent: int | None, mid: str | None, csrc: Any
) -> None:
    packet = RtpPacket(96, int(marker), number, timestamp, 99, data)
    packet.padding_size, packet.csrc = padding, csrc
    packet.extensions.abs_send_time, packet.extensions.mid = sent, mid
    read = parse(packet.serialize(extensions(3, 1)), 3)
    expected = Packet(96, number, timestamp, 99, data, marker=marker, padding=padding, abs_send_time=sent)
    assert [getattr(read, name) for name in Packet.__slots__] == [
        getattr(expected, name) for name in Packet.__slots__
    ]


@given(st.binary(max_size=80), st.booleans())
def test_parse_of_arbitrary_bytes_returns_or_raises(data: bytes, version_2: bool) -> None:
    if version_2:
        data = bytes([0x80 | data[0] & 0x3F]) + data[1:] if data else data
    try:
        read = parse(data, 3)
    except ValueError:
        return
    assert len(read.payload) + read.padding <= len(data) - 12


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        b"\x40" + bytes(20),  # version 1
        b"\x81" + bytes(12),  # a missing CSRC
        b"\x90" + bytes(12),  # a missing extension
        b"\x90" + bytes(11) + b"\xbe\xde\x00\x09" + bytes(4),  # an extension longer than the packet
        b"\xa0" + bytes(11) + b"\x00\x00",  # padding of zero bytes
        b"\xa0" + bytes(11) + b"\x00\x09",  # padding longer than the packet
    ],
)
def test_parse_of_a_malformed_packet_raises(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"RTP"):
        parse(data)


def test_truncated_abs_send_time_is_ignored() -> None:
    header = b"\x90" + bytes(11)
    assert parse(header + b"\xbe\xde\x00\x01" + b"\x32\x01\x02\x03", 3).abs_send_time == 0x010203
    assert parse(header + b"\xbe\xde\x00\x01" + b"\x00\x00\x32\x01", 3).abs_send_time is None
    assert parse(header + b"\xbe\xde\x00\x01" + b"\xf0\x32\x01\x02", 3).abs_send_time is None
    assert parse(header + b"\x10\x00\x00\x01" + b"\x00\x00\x00\x03", 3).abs_send_time is None
    assert parse(header + b"\x77\x77\x00\x01" + b"\x32\x01\x02\x03", 3).abs_send_time is None
