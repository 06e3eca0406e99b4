"""RTP headers of an outgoing stream (RFC 3550 5.1). Pure.

Extensions are in the one-byte form (RFC 8285 4.2), or in the two-byte form (4.3) if an id or a length requires it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

from .ntp import NTP_EPOCH

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
ABS_SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

ONE_BYTE_PROFILE, TWO_BYTE_PROFILE = 0xBEDE, 0x1000
"""Profiles of a header extension (RFC 8285 4.2, 4.3). The lower four bits of the second are arbitrary."""


class HeaderWriter:
    """Writer of the headers of one stream.

    Args:
        extensions: negotiated ids by URI.
        mid: that of the media section (RFC 9143).

    The remote chooses both. An extension that fits neither form is left out.
    """

    def __init__(self, extensions: Mapping[str, int], mid: str) -> None:
        values = {MID: mid.encode(), ABS_SEND_TIME: bytes(3)}
        elements = {
            uri: (number, values[uri])
            for uri, number in extensions.items()
            if uri in values and 0 < number < 256 and 0 < len(values[uri]) < 256
        }
        one_byte = all(number < 15 and len(value) <= 16 for number, value in elements.values())

        def encode(number: int, value: bytes) -> bytes:
            return bytes([number << 4 | len(value) - 1] if one_byte else [number, len(value)]) + value

        constant = encode(*elements[MID]) if MID in elements else b""
        self._has_send_time = ABS_SEND_TIME in elements
        if self._has_send_time:
            constant += encode(*elements[ABS_SEND_TIME])[:-3]
        length = len(constant) + (3 if self._has_send_time else 0)
        self._padding = bytes(-length % 4)
        profile = ONE_BYTE_PROFILE if one_byte else TWO_BYTE_PROFILE
        self._constant = struct.pack("!HH", profile, (length + 3) // 4) + constant if length else b""
        self._first_byte = 0x90 if self._constant else 0x80

    def fixed(self, payload_type: int, marker: bool, number: int, timestamp: int, ssrc: int) -> bytes:
        """Return the fixed part of the header, twelve bytes."""
        return struct.pack("!BBHLL", self._first_byte, marker << 7 | payload_type, number, timestamp, ssrc)

    def extension(self, now: float) -> bytes:
        """Return the extension that follows the fixed part of a packet sent at ``now``, in Unix seconds."""
        if not self._has_send_time:
            return self._constant + self._padding
        send_time = int((now + NTP_EPOCH) * (1 << 18)) & 0xFFFFFF  # NTP seconds as 6.18 bits, upper bits dropped
        return self._constant + send_time.to_bytes(3, "big") + self._padding
