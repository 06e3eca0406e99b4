"""RTP payloads back into what a decoder reads: VP8 (RFC 7741), H.264 (RFC 6184), sound as it is. PURE.

Cutting them is ``media.payload``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

_START_CODE: Final = b"\x00\x00\x00\x01"
_SLICE, _IDR, _SPS, _DELIMITER = 1, 5, 7, 9
_STAP_A, _FU_A = 24, 28


class Piece(NamedTuple):
    """What one packet holds of a picture, or a whole packet of sound."""

    data: bytes
    starts: bool
    """Whether a picture surely begins here. False where the codec does not tell."""
    key: bool
    """Whether the picture is one that decoding can start at. Tells the truth in at least one of its packets."""


def vp8(payload: bytes) -> Piece:
    """RFC 7741 4.2, and the first bit of the frame (RFC 6386 9.1)."""
    first, at = payload[0], 1
    if first & 0x80:
        extensions, at = payload[1], 2
        if extensions & 0x80:
            at += 2 if payload[at] & 0x80 else 1
        at += bool(extensions & 0x40) + bool(extensions & 0x30)
    data = payload[at:]
    starts = bool(data) and first & 0x17 == 0x10
    return Piece(data, starts, starts and not data[0] & 0x01)


def h264(payload: bytes) -> Piece:
    """RFC 6184 5.6 to 5.8, as Annex B. An IDR slice may have parameter sets before it, so it alone is no start."""
    kind = payload[0] & 0x1F
    if kind == _FU_A:
        header = payload[1]
        if not header & 0x80:
            return Piece(payload[2:], False, False)
        unit = bytes([payload[0] & 0xE0 | header & 0x1F]) + payload[2:]
        return Piece(_START_CODE + unit, _begins(unit), header & 0x1F in (_IDR, _SPS))
    if kind == _STAP_A:
        units = _aggregated(payload)
        return Piece(
            b"".join(_START_CODE + unit for unit in units),
            bool(units) and _begins(units[0]),
            any(unit[0] & 0x1F in (_IDR, _SPS) for unit in units),
        )
    if 0 < kind < _STAP_A:
        return Piece(_START_CODE + payload, _begins(payload), kind in (_IDR, _SPS))
    raise ValueError(f"a packet of type {kind}, which packetization modes 0 and 1 do not have")


def sound(payload: bytes) -> Piece:
    return Piece(payload, True, True)


CODECS: Final[dict[str, Callable[[bytes], Piece]]] = {"vp8": vp8, "h264": h264}
"""By FFmpeg's name; whatever else there is is sound."""


def read(codec: str, payload: bytes) -> Piece:
    """What ``payload`` holds. An empty one (padding) holds nothing.

    Raises:
        ValueError: it is damaged, or of a kind that was not negotiated.
    """
    if not payload:
        return Piece(b"", False, False)
    try:
        return CODECS.get(codec, sound)(payload)
    except IndexError as exc:
        raise ValueError(f"a payload of {codec} cut short") from exc


def _begins(unit: bytes) -> bool:
    """Whether a NAL unit is the first of its picture (ITU-T H.264 7.4.1.2.3): parameter set, delimiter, or the slice
    whose ``first_mb_in_slice`` is 0, which is a single bit."""
    kind = unit[0] & 0x1F
    return kind in (_SPS, _DELIMITER) or (kind == _SLICE and len(unit) > 1 and bool(unit[1] & 0x80))


def _aggregated(payload: bytes) -> list[bytes]:
    units, at = [], 1
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2])
        at += 2
        if not size or at + size > len(payload):
            raise ValueError("a STAP-A cut short")
        units.append(payload[at : at + size])
        at += size
    return units
