"""RTP headers of one outgoing stream (RFC 3550 5.1), its extensions in the one-byte form (RFC 8285 4.2). PURE."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 (NTP, RFC 5905) to 1970 (Unix)."""

MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"


class Header:
    """``extensions``: negotiated ids (1 to 14) by URI; ``mid`` of the media section (RFC 9143)."""

    def __init__(self, extensions: Mapping[str, int], mid: str) -> None:
        fixed = b""
        if MID in extensions and mid:
            value = mid.encode()
            fixed += bytes([extensions[MID] << 4 | len(value) - 1]) + value
        self._timed = SEND_TIME in extensions
        if self._timed:
            fixed += bytes([extensions[SEND_TIME] << 4 | 2])
        length = len(fixed) + (3 if self._timed else 0)
        self._padding = bytes(-length % 4)
        self._fixed = struct.pack("!HH", 0xBEDE, (length + 3) // 4) + fixed if length else b""
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
