"""Headers, read by the engine's own parser."""

from __future__ import annotations

import time

import pytest
from aiortc.clock import current_ntp_time
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from peer.rtp.header import MID, SEND_TIME, Header


def read(packet: bytes, extensions: dict[str, int]) -> RtpPacket:
    known = HeaderExtensionsMap()
    known.configure(
        RTCRtpParameters(
            headerExtensions=[RTCRtpHeaderExtensionParameters(id=id_, uri=uri) for uri, id_ in extensions.items()]
        )
    )
    return RtpPacket.parse(packet, known)


@pytest.mark.parametrize("mid", ["0", "12", "video", "a-mid-16-octets!", "one-of-17-octets!", "long" * 60])
@pytest.mark.parametrize(
    "extensions", [{}, {MID: 1}, {SEND_TIME: 3}, {MID: 14, SEND_TIME: 3}, {MID: 15, SEND_TIME: 3}, {SEND_TIME: 255}]
)
def test_what_is_written_is_read(mid: str, extensions: dict[str, int]) -> None:
    header = Header(extensions, mid)
    now, ntp = time.time(), current_ntp_time()
    packet = read(header.fixed(96, True, 65535, 0xFFFFFFFF, 7) + header.extension(now) + b"media", extensions)
    assert (packet.payload_type, packet.marker, packet.sequence_number) == (96, 1, 65535)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (0xFFFFFFFF, 7, b"media")
    assert packet.extensions.mid == (mid if MID in extensions else None)
    told = packet.extensions.abs_send_time
    if SEND_TIME in extensions:
        assert told is not None
        assert (((ntp >> 14) - told) & 0xFFFFFF) in range(-1000, 1000) or abs(((ntp >> 14) & 0xFFFFFF) - told) < 1000
    else:
        assert told is None


@pytest.mark.parametrize(
    ("mid", "extensions"), [("m" * 256, {MID: 1}), ("", {MID: 1}), ("0", {MID: 256}), ("0", {SEND_TIME: 0})]
)
def test_what_no_form_has_room_for_is_left_out(mid: str, extensions: dict[str, int]) -> None:
    header = Header(extensions, mid)
    packet = read(header.fixed(96, False, 1, 2, 3) + header.extension(1.0) + b"media", {MID: 1, SEND_TIME: 2})
    assert packet.payload == b"media"
    assert (packet.extensions.mid, packet.extensions.abs_send_time) == (None, None)
