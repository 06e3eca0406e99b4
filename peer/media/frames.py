"""What travels through the media paths besides PyAV's own frames, and the clock all of it is stamped with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

VIDEO_TIME_BASE: Final = Fraction(1, 90_000)
"""RTP clock of every video codec (RFC 6184, RFC 7741)."""

AUDIO_RATE: Final = 48_000
"""Samples a second of all sound inside the program: Opus' RTP clock (RFC 7587)."""

AUDIO_TIME_BASE: Final = Fraction(1, AUDIO_RATE)

AUDIO_FRAME_SAMPLES: Final = 960
"""20 ms, what one Opus packet carries."""

MAX_PIXELS: Final = 139_264 * 16 * 16
"""Of a picture that is decoded: the most that any level of H.264 has (6.2, Table A-1), 8192x4352. One packet can say
16000x16000, which takes 400 MB each time."""

_ORIGIN = time.monotonic()


def media_time() -> float:
    """Seconds on the one clock that captured pictures and sound are stamped with: monotonic, from zero."""
    return time.monotonic() - _ORIGIN


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One coded picture or sound packet of a remote peer, as it arrived and before it is decoded.

    ``data`` is the codec's elementary stream: a VP8 frame, an H.264 access unit in Annex B, an Opus packet.
    """

    kind: Literal["video", "audio"]
    codec: str
    """FFmpeg's name: ``vp8``, ``h264``, ``opus``, ``pcm_mulaw``, ``pcm_alaw``, ``g722``."""
    data: bytes
    timestamp: int
    """RTP timestamp, unwrapped, in units of 1/``clock_rate`` s. Its origin is the stream's own."""
    clock_rate: int
    key: bool
    """Whether decoding can start here. Always true for sound."""
    arrival: float
    """``time.monotonic()`` seconds at which the last packet of it arrived."""
    ntp: float | None
    """The sender's wall clock (Unix seconds) for ``timestamp``, from its RTCP sender reports (RFC 3550 6.4.1):
    what puts sound and picture on one clock. ``None`` until the first report has come."""
    gap: bool = False
    """Whether pictures before this one were lost for good, so that it can be decoded only if it is ``key``."""


@dataclass(frozen=True, slots=True)
class OutgoingFrame:
    """One coded picture or sound packet of ours, cut into RTP payloads once for all who get it."""

    payloads: tuple[bytes, ...]
    timestamp: int
    """RTP timestamp on the media clock, unwrapped: pictures and sound of one moment have the same, in their units."""
    key: bool
    """Whether decoding can start here. Always true for sound."""
    size: tuple[int, int] | None = None
    """Of the picture, in pixels."""

    @property
    def octets(self) -> int:
        """Of the payloads."""
        return sum(map(len, self.payloads))
