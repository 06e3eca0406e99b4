"""Depacketization of RTP payloads into decoder input: VP8 (RFC 7741), H.264 (RFC 6184), audio unchanged. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ..codecs.h264 import DELIMITER, FU_A, IDR, SLICE, SPS, STAP_A, START_CODE


class ParsedPayload(NamedTuple):
    """The part of a video frame in one packet, or a whole audio packet."""

    data: bytes
    starts_frame: bool
    """Whether a frame certainly begins here. False where the codec does not show it."""
    key_frame: bool
    """Whether the frame is a key frame. True in at least one packet of a key frame."""


def depacketize(codec: str, payload: bytes) -> ParsedPayload:
    """Parse a payload. ``codec`` is FFmpeg's name. An empty payload (padding) yields no data.

    Raises:
        ValueError: it is truncated, or of a type that was not negotiated.
    """
    if not payload:
        return ParsedPayload(b"", False, False)
    try:
        return _DEPACKETIZERS.get(codec, _depacketize_audio)(payload)
    except IndexError as exc:
        raise ValueError(f"truncated {codec} payload") from exc


def _depacketize_vp8(payload: bytes) -> ParsedPayload:
    """Strip the payload descriptor (RFC 7741 4.2), and read the key frame bit (RFC 6386 9.1)."""
    first, at = payload[0], 1
    if first & 0x80:
        extensions, at = payload[1], 2
        if extensions & 0x80:
            at += 2 if payload[at] & 0x80 else 1
        at += bool(extensions & 0x40) + bool(extensions & 0x30)
    data = payload[at:]
    starts_frame = bool(data) and first & 0x17 == 0x10
    return ParsedPayload(data, starts_frame, starts_frame and not data[0] & 0x01)


def _depacketize_h264(payload: bytes) -> ParsedPayload:
    """Convert to Annex B (RFC 6184 5.6 to 5.8).

    An IDR slice alone does not start a frame, because parameter sets may precede it.
    """
    kind = payload[0] & 0x1F
    if kind == FU_A:
        header = payload[1]
        if not header & 0x80:
            return ParsedPayload(payload[2:], False, False)
        unit = bytes([payload[0] & 0xE0 | header & 0x1F]) + payload[2:]
        return ParsedPayload(START_CODE + unit, _starts_frame(unit), header & 0x1F in (IDR, SPS))
    if kind == STAP_A:
        units = _split_aggregate(payload)
        return ParsedPayload(
            b"".join(START_CODE + unit for unit in units),
            bool(units) and _starts_frame(units[0]),
            any(unit[0] & 0x1F in (IDR, SPS) for unit in units),
        )
    if 0 < kind < STAP_A:
        return ParsedPayload(START_CODE + payload, _starts_frame(payload), kind in (IDR, SPS))
    raise ValueError(f"H.264 payload of type {kind}, which packetization modes 0 and 1 do not have")


def _depacketize_audio(payload: bytes) -> ParsedPayload:
    return ParsedPayload(payload, True, True)


_DEPACKETIZERS: Final[dict[str, Callable[[bytes], ParsedPayload]]] = {
    "vp8": _depacketize_vp8,
    "h264": _depacketize_h264,
}
"""By FFmpeg's name of the codec. All other codecs are audio."""


def _starts_frame(unit: bytes) -> bool:
    """Whether a NAL unit is the first of its access unit (ITU-T H.264 7.4.1.2.3).

    It is if it is a parameter set, a delimiter, or a slice with ``first_mb_in_slice`` 0, which is coded as one bit.
    """
    kind = unit[0] & 0x1F
    return kind in (SPS, DELIMITER) or (kind == SLICE and len(unit) > 1 and bool(unit[1] & 0x80))


def _split_aggregate(payload: bytes) -> list[bytes]:
    units, at = [], 1
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2])
        at += 2
        if not size or at + size > len(payload):
            raise ValueError("truncated H.264 payload: a STAP-A with an incomplete unit")
        units.append(payload[at : at + size])
        at += size
    return units
