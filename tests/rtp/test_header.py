"""RTP headers, checked with the engine's parser."""

from __future__ import annotations

import time

import pytest
from aiortc.clock import current_ntp_time
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from peer.rtp.header import ABS_SEND_TIME, MID, HeaderWriter


def read(packet: bytes, extensions: dict[str, int]) -> RtpPacket:
    known = HeaderExtensionsMap()
    known.configure(
        RTCRtpParameters(
            headerExtensions=[RTCRtpHeaderExtensionParameters(id=id_, uri=uri) for uri, id_ in extensions.items()]
        )
    )
    return RtpPacket.parse(packet, known)


@pytest.mark.parametrize("mid", ["0", "12", "video", "a-mid-16-bytes!!", "one-of-17-bytes!!", "long" * 60])
@pytest.mark.parametrize(
    "extensions",
    [
        {},
        {MID: 1},
        {ABS_SEND_TIME: 3},
        {MID: 14, ABS_SEND_TIME: 3},
        {MID: 15, ABS_SEND_TIME: 3},
        {ABS_SEND_TIME: 255},
    ],
)
def test_header_is_read_back_by_the_engine(mid: str, extensions: dict[str, int]) -> None:
    header = HeaderWriter(extensions, mid)
    before, now, after = current_ntp_time(), time.time(), current_ntp_time()
    packet = read(header.fixed(96, True, 65535, 0xFFFFFFFF, 7) + header.extension(now) + b"media", extensions)
    assert (packet.payload_type, packet.marker, packet.sequence_number) == (96, 1, 65535)
    assert (packet.timestamp, packet.ssrc, packet.payload) == (0xFFFFFFFF, 7, b"media")
    assert packet.extensions.mid == (mid if MID in extensions else None)
    sent = packet.extensions.abs_send_time
    if ABS_SEND_TIME in extensions:
        assert sent is not None
        # 6.18 fixed point, modulo 64 s; one unit of tolerance for rounding
        assert (sent - (before >> 14) + 1) & 0xFFFFFF <= (after >> 14) - (before >> 14) + 2
    else:
        assert sent is None


@pytest.mark.parametrize(
    ("mid", "extensions"), [("m" * 256, {MID: 1}), ("", {MID: 1}), ("0", {MID: 256}), ("0", {ABS_SEND_TIME: 0})]
)
def test_extension_that_fits_no_form_is_left_out(mid: str, extensions: dict[str, int]) -> None:
    header = HeaderWriter(extensions, mid)
    packet = read(header.fixed(96, False, 1, 2, 3) + header.extension(1.0) + b"media", {MID: 1, ABS_SEND_TIME: 2})
    assert packet.payload == b"media"
    assert (packet.extensions.mid, packet.extensions.abs_send_time) == (None, None)
