"""RTP headers of one outgoing stream (RFC 3550 5.1), its extensions in the one-byte form (RFC 8285 4.2), or in the
two-byte form (4.3) where their numbers or lengths need it. PURE."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 (NTP, RFC 5905) to 1970 (Unix)."""

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

_ONE_OCTET, _TWO_OCTETS = 0xBEDE, 0x1000


class Header:
    """``extensions``: negotiated ids by URI; ``mid`` of the media section (RFC 9143). Both are the remote's choice:
    what no form has room for is left out."""

    def __init__(self, extensions: Mapping[str, int], mid: str) -> None:
        values = {MID: mid.encode(), SEND_TIME: bytes(3)}
        taken = {
            uri: (number, values[uri])
            for uri, number in extensions.items()
            if uri in values and 0 < number < 256 and 0 < len(values[uri]) < 256
        }
        narrow = all(number < 15 and len(value) <= 16 for number, value in taken.values())

        def element(number: int, value: bytes) -> bytes:
            return bytes([number << 4 | len(value) - 1] if narrow else [number, len(value)]) + value

        fixed = element(*taken[MID]) if MID in taken else b""
        self._timed = SEND_TIME in taken
        if self._timed:
            fixed += element(*taken[SEND_TIME])[:-3]
        length = len(fixed) + (3 if self._timed else 0)
        self._padding = bytes(-length % 4)
        profile = _ONE_OCTET if narrow else _TWO_OCTETS
        self._fixed = struct.pack("!HH", profile, (length + 3) // 4) + fixed if length else b""
        self._first = 0x90 if self._fixed else 0x80

    def extension(self, now: float) -> bytes:
        """What follows the fixed part of the header, sent at ``now`` (Unix seconds)."""
        if not self._timed:
            return self._fixed + self._padding
        send_time = int((now + NTP_EPOCH) * (1 << 18)) & 0xFFFFFF  # the lower 6.18 bits of NTP's seconds
        return self._fixed + send_time.to_bytes(3, "big") + self._padding

    def fixed(self, payload_type: int, marker: bool, number: int, timestamp: int, ssrc: int) -> bytes:
        """The twelve octets in front of the extension."""
        return struct.pack("!BBHLL", self._first, marker << 7 | payload_type, number, timestamp, ssrc)
