"""Coded frames cut into RTP payloads. PURE.

VP8 by RFC 7741 without picture ids: they would have to run on when a viewer moves from one encoding to another, and
receivers do well with sequence numbers alone. H.264 by RFC 6184 in non-interleaved mode (packetization-mode 1).
Sound fits into one packet.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

from ..codecs.h264 import nal_units

MAX_PAYLOAD: Final = 1170
"""Octets. With IPv6 (40), UDP (8), a TURN channel (4), RTP (12), its extensions (28, with a mid of 16), the number of
an RTX packet (2) and the tag of SRTP (16) they fill 1,280, the least MTU of IPv6 and that of many a tunnel."""

_VP8_START, _VP8_MORE = b"\x10", b"\x00"
"""Payload descriptors (RFC 7741 4.2): the S bit, partition 0; and what follows of the same frame."""

_STAP_A, _FU_A = 24, 28
_FU_START, _FU_END = 0x80, 0x40
_NRI: Final = 0x60


def payloads(codec: str, data: bytes) -> list[bytes]:
    """The RTP payloads of one coded frame, in order; the last one gets the marker bit. ``codec``: FFmpeg's name."""
    if codec == "vp8":
        return _vp8(data)
    if codec == "h264":
        return _h264(data)
    return [data]


def _vp8(data: bytes) -> list[bytes]:
    size = MAX_PAYLOAD - 1
    return [(_VP8_MORE if at else _VP8_START) + data[at : at + size] for at in range(0, len(data), size)]


def _h264(data: bytes) -> list[bytes]:
    packets: list[bytes] = []
    small: list[bytes] = []
    room = MAX_PAYLOAD - 1
    for unit in nal_units(data):
        if len(unit) + 2 > room:
            packets += _aggregated(small)
            small, room = [], MAX_PAYLOAD - 1
        if len(unit) > MAX_PAYLOAD:
            packets += _fragments(unit)
        else:
            small.append(unit)
            room -= len(unit) + 2
    return packets + _aggregated(small)


def _aggregated(units: list[bytes]) -> list[bytes]:
    """One packet for all ``units``: a STAP-A, or the unit itself if it is alone (RFC 6184 5.6, 5.7.1)."""
    if len(units) < 2:
        return units
    header = _STAP_A | max(unit[0] & _NRI for unit in units)
    return [bytes([header]) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)]


def _fragments(unit: bytes) -> list[bytes]:
    """FU-A packets of nearly the same size (RFC 6184 5.8): the header of the unit travels in their two octets."""
    body = memoryview(unit)[1:]
    count = math.ceil(len(body) / (MAX_PAYLOAD - 2))
    cuts = [len(body) * n // count for n in range(count + 1)]
    indicator, kind = unit[0] & _NRI | _FU_A, unit[0] & 0x1F
    packets = []
    for n, (begin, end) in enumerate(itertools.pairwise(cuts)):
        flags = _FU_START if n == 0 else _FU_END if n == count - 1 else 0
        packets.append(bytes([indicator, flags | kind]) + body[begin:end])
    return packets
