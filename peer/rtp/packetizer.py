"""Packetization of encoded frames into RTP payloads. Pure.

VP8 (RFC 7741) is sent without picture ids. They would have to continue when a viewer moves from one encoding to
another, and receivers need only sequence numbers. H.264 is sent in the negotiated packetization mode (RFC
6184 6): 1, non-interleaved, or 0, single NAL unit. An audio frame fits into one packet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Final

from ..codecs.h264 import FU_A, STAP_A, nal_units

MAX_PAYLOAD: Final = 1170
"""Maximum payload, in bytes. IPv6 (40), UDP (8), a TURN channel (4), RTP (12), its extensions (28 with a mid of 16),
the original sequence number of RTX (2) and the SRTP tag (16) bring it to 1,280, the minimum MTU of IPv6."""

_VP8_START, _VP8_CONTINUATION = b"\x10", b"\x00"
"""Payload descriptors (RFC 7741 4.2): S bit and partition 0 on the first packet of a frame, nothing on the others."""

_FU_START, _FU_END = 0x80, 0x40
_NRI: Final = 0x60


def packetize(codec: str, data: bytes, packetization_mode: int = 1) -> list[bytes]:
    """Return the RTP payloads of one encoded frame, in order. The last one is sent with the marker bit.

    ``codec`` is FFmpeg's name. Data of unknown codecs, and so audio, becomes one payload.

    ``packetization_mode``, 0 or 1, is used for H.264 only. In mode 0 each NAL unit is one payload (RFC 6184 6.2).
    Nothing can split a unit above ``MAX_PAYLOAD`` then, so the encoder has to make smaller ones: see ``fits``.
    """
    if codec == "vp8":
        return _packetize_vp8(data)
    if codec == "h264":
        return list(nal_units(data)) if packetization_mode == 0 else _packetize_h264(data)
    return [data]


def fits(payloads: Iterable[bytes]) -> bool:
    """Whether all NAL units of an H.264 frame with these payloads, in either mode, are at most ``MAX_PAYLOAD``."""
    return not any(len(payload) > MAX_PAYLOAD or payload[0] & 0x1F == FU_A for payload in payloads if payload)


def _packetize_vp8(data: bytes) -> list[bytes]:
    size = MAX_PAYLOAD - 1
    return [(_VP8_CONTINUATION if at else _VP8_START) + data[at : at + size] for at in range(0, len(data), size)]


def _packetize_h264(data: bytes) -> list[bytes]:
    packets: list[bytes] = []
    small: list[bytes] = []
    room = MAX_PAYLOAD - 1
    for unit in nal_units(data):
        if len(unit) + 2 > room:
            packets += _aggregate(small)
            small, room = [], MAX_PAYLOAD - 1
        if len(unit) > MAX_PAYLOAD:
            packets += _fragment(unit)
        else:
            small.append(unit)
            room -= len(unit) + 2
    return packets + _aggregate(small)


def _aggregate(units: list[bytes]) -> list[bytes]:
    """Return one payload: a STAP-A of all units, or a single unit unchanged (RFC 6184 5.6, 5.7.1)."""
    if len(units) < 2:
        return units
    header = STAP_A | max(unit[0] & _NRI for unit in units)
    return [bytes([header]) + b"".join(len(unit).to_bytes(2, "big") + unit for unit in units)]


def _fragment(unit: bytes) -> list[bytes]:
    """Return FU-A payloads of nearly equal size (RFC 6184 5.8). Their two bytes replace the unit's header."""
    body = memoryview(unit)[1:]
    count = math.ceil(len(body) / (MAX_PAYLOAD - 2))
    cuts = [len(body) * n // count for n in range(count + 1)]
    indicator, kind = unit[0] & _NRI | FU_A, unit[0] & 0x1F
    packets = []
    for n, (begin, end) in enumerate(itertools.pairwise(cuts)):
        flags = _FU_START if n == 0 else _FU_END if n == count - 1 else 0
        packets.append(bytes([indicator, flags | kind]) + body[begin:end])
    return packets
