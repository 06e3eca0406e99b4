"""RTP packet (RFC 3550 5.1), parsed in one pass, with the fields that a receiver needs. Pure."""

from __future__ import annotations

import struct
from typing import Final

from .header import ONE_BYTE_PROFILE, TWO_BYTE_PROFILE

_HEADER: Final = struct.Struct("!BBHLL")
_EXTENSION: Final = struct.Struct("!HH")


class Packet:
    """Header fields, the payload without padding, and the abs-send-time extension that REMB needs."""

    __slots__ = (
        "abs_send_time",
        "marker",
        "padding",
        "payload",
        "payload_type",
        "sequence_number",
        "ssrc",
        "timestamp",
    )

    def __init__(
        self,
        payload_type: int,
        sequence_number: int,
        timestamp: int,
        ssrc: int,
        payload: bytes,
        marker: bool = False,
        padding: int = 0,
        abs_send_time: int | None = None,
    ) -> None:
        self.payload_type = payload_type
        self.sequence_number = sequence_number
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.marker = marker
        self.padding = padding
        """Bytes of padding, including the count itself."""
        self.abs_send_time = abs_send_time
        """When it was sent, in units of 2**-18 s modulo 64 s. ``None`` without the extension."""


def parse(data: bytes, abs_send_time_id: int | None = None) -> Packet:
    """Parse a packet. ``abs_send_time_id`` is the negotiated id of that header extension.

    Raises:
        ValueError: it is truncated, or not RTP version 2.
    """
    try:
        first, second, sequence_number, timestamp, ssrc = _HEADER.unpack_from(data)
        if first & 0xC0 != 0x80:
            raise ValueError("not RTP version 2")
        begin, end, padding = 12 + 4 * (first & 0x0F), len(data), 0
        abs_send_time = None
        if first & 0x10:
            profile, words = _EXTENSION.unpack_from(data, begin)
            extension, begin = begin + 4, begin + 4 + 4 * words
            if abs_send_time_id is not None and begin <= end:
                abs_send_time = _abs_send_time(data, profile, extension, begin, abs_send_time_id)
        if first & 0x20:
            padding = data[-1]
            end -= padding
        if begin > end or (first & 0x20 and not padding):
            raise ValueError("RTP header or padding is longer than the packet")
    except (struct.error, IndexError) as exc:
        raise ValueError("truncated RTP packet") from exc
    return Packet(
        second & 0x7F,
        sequence_number,
        timestamp,
        ssrc,
        data[begin:end],
        second > 0x7F,
        padding,
        abs_send_time,
    )


def _abs_send_time(data: bytes, profile: int, at: int, end: int, wanted: int) -> int | None:
    """Return the value of the extension element ``wanted`` (RFC 8285 4.2, 4.3). A truncated one ends the search."""
    one_byte = profile == ONE_BYTE_PROFILE
    if not one_byte and profile & 0xFFF0 != TWO_BYTE_PROFILE:
        return None
    while at < end:
        first = data[at]
        at += 1
        if not first:
            continue  # padding
        if one_byte:
            number, length = first >> 4, (first & 0x0F) + 1
            if number == 15:
                return None  # RFC 8285 4.2: id 15 ends the list
        elif at < end:
            number, length = first, data[at]
            at += 1
        else:
            return None
        if number == wanted:
            return int.from_bytes(data[at : at + 3]) if length == 3 and at + 3 <= end else None
        at += length
    return None
