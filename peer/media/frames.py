"""Encoded frames, the constants of the media paths, and the media clock."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Literal

VIDEO_TIME_BASE: Final = Fraction(1, 90_000)
"""RTP clock of all video codecs (RFC 6184, RFC 7741)."""

AUDIO_RATE: Final = 48_000
"""Sample rate of all audio inside the program, in Hz: the RTP clock of Opus (RFC 7587)."""

AUDIO_TIME_BASE: Final = Fraction(1, AUDIO_RATE)

AUDIO_FRAME_SAMPLES: Final = 960
"""Samples per audio frame: 20 ms, the duration of one Opus packet."""

MAX_PIXELS: Final = 139_264 * 16 * 16
"""Maximum size of a decoded frame, in pixels: 8192x4352, the highest of any H.264 level (6.2, Table A-1). Without it,
one packet that claims 16000x16000 makes the decoder allocate 400 MB."""

_MAX_DISTORTION: Final = Fraction(1, 100)
"""Maximum deviation of a pixel aspect ratio from 1 that is ignored, because it is invisible."""

_MAX_PIXEL_ASPECT: Final = Fraction(4)
"""Maximum pixel aspect ratio. The ratios of ITU-T H.264 table E-1 are between 10:11 and 32:11; one beyond 4 is an
error in the file."""

_ORIGIN = time.monotonic()


def media_time() -> float:
    """Return the media clock in seconds, monotonic from zero at start. All captured frames are stamped with it."""
    return time.monotonic() - _ORIGIN


def is_anamorphic(pixel_aspect: Fraction) -> bool:
    """Whether pixels of that aspect ratio must be scaled."""
    return abs(pixel_aspect - 1) > _MAX_DISTORTION and 1 / _MAX_PIXEL_ASPECT <= pixel_aspect <= _MAX_PIXEL_ASPECT


@dataclass(frozen=True, slots=True)
class EncodedFrame:
    """One encoded frame, from a remote peer or from a source that delivers H.264.

    ``data`` is the codec's elementary stream: a VP8 frame, an H.264 access unit in Annex B, an Opus packet.
    """

    kind: Literal["video", "audio"]
    codec: str
    """FFmpeg's name of the codec: ``vp8``, ``h264``, ``opus``, ``pcm_mulaw``, ``pcm_alaw``, ``g722``."""
    data: bytes
    timestamp: int
    """RTP timestamp, unwrapped, in units of 1/``clock_rate`` s from an arbitrary origin per stream."""
    clock_rate: int
    key: bool
    """Whether decoding can start with this frame: a key frame. Always true for audio."""
    arrival: float
    """``time.monotonic()`` at which its last packet arrived, in seconds."""
    ntp: float | None
    """The sender's wall clock at ``timestamp``, in Unix seconds, from RTCP sender reports (RFC 3550 section 6.4.1).
    It puts audio and video on one clock. ``None`` until the first report has arrived."""
    gap: bool = False
    """Whether frames before this one are lost for good, so that it can be decoded only if it is a key frame."""


@dataclass(frozen=True, slots=True)
class OutgoingFrame:
    """One of our encoded frames, packetized once for all viewers."""

    payloads: tuple[bytes, ...]
    timestamp: int
    """RTP timestamp, unwrapped: ``media_time()`` in units of 1/90000 s (video) or of the audio codec's clock."""
    key: bool
    """Whether decoding can start with this frame: a key frame. Always true for audio."""
    size: tuple[int, int] | None = None
    """Width and height of a video frame, in pixels."""
    packetization_mode: int = 0
    """Packetization mode of H.264 (RFC 6184 6.2, 6.3). Viewers in mode 1 can also receive mode 0."""

    @property
    def byte_count(self) -> int:
        """Size of all payloads, in bytes."""
        return sum(map(len, self.payloads))
