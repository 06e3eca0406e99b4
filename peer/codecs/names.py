"""Names of codecs: RTP's, as in ``a=rtpmap``, and FFmpeg's. Pure."""

from __future__ import annotations

from typing import Final

_DIFFERENT: Final = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}
"""FFmpeg's names where they are not the RTP names in lower case."""


def ffmpeg_name(rtp_name: str) -> str:
    """Return FFmpeg's name of a codec, for example ``pcm_mulaw`` for ``PCMU``."""
    name = rtp_name.lower()
    return _DIFFERENT.get(name, name)
