"""FFmpeg's names of the codecs that are negotiated."""

from __future__ import annotations

import av
import pytest

from peer.codecs.names import ffmpeg_name


@pytest.mark.parametrize(
    ("rtp_name", "expected"),
    [
        ("VP8", "vp8"),
        ("H264", "h264"),
        ("opus", "opus"),
        ("PCMU", "pcm_mulaw"),
        ("PCMA", "pcm_alaw"),
        ("G722", "g722"),
    ],
)
def test_ffmpeg_name_of_a_negotiated_codec_has_a_decoder(rtp_name: str, expected: str) -> None:
    assert ffmpeg_name(rtp_name) == expected
    av.Codec(expected, "r")  # raises if FFmpeg does not know it
