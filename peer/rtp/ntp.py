"""NTP timestamps of sender reports (RFC 3550 section 4): seconds since 1900, 32.32 bits. They wrap in 2036. Pure."""

from __future__ import annotations

from typing import Final

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 to 1970."""

_ERA: Final = 1 << 32
"""Duration of an era in seconds (RFC 5905 section 6)."""


def to_ntp(seconds: float) -> int:
    """Return Unix ``seconds`` as an NTP timestamp."""
    return round((seconds + NTP_EPOCH) * (1 << 32)) & 0xFFFFFFFF_FFFFFFFF


def from_ntp(timestamp: int, now: float) -> float:
    """Return an NTP timestamp in Unix seconds, in the era that is nearest to ``now``, also in Unix seconds."""
    seconds = timestamp / (1 << 32) - NTP_EPOCH
    return seconds + round((now - seconds) / _ERA) * _ERA
