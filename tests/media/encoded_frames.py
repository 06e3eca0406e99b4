"""Encoded video and audio for tests of decoders."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import av
import numpy as np

from peer.media.frames import EncodedFrame


def video_frames(codec: str, count: int, size: tuple[int, int] = (160, 120), **options: str) -> list[EncodedFrame]:
    """Return ``count`` video frames at 30 per second; only the first is a key frame. ``codec``: ``vp8`` or
    ``h264``."""
    encoder: Any = av.CodecContext.create("libvpx" if codec == "vp8" else "libx264", "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt, encoder.time_base, encoder.gop_size = "yuv420p", Fraction(1, 30), 1000
    real_time = {"lag-in-frames": "0", "deadline": "realtime"}
    encoder.options = (real_time if codec == "vp8" else {"tune": "zerolatency", "preset": "ultrafast"}) | options
    packets = []
    for number in range(count):
        frame: Any = av.VideoFrame.from_ndarray(
            np.full((size[1] * 3 // 2, size[0]), 40 + number, np.uint8), "yuv420p"
        )
        frame.pts, frame.time_base = number, Fraction(1, 30)
        packets += encoder.encode(frame)
    return [
        EncodedFrame("video", codec, bytes(packet), packet.pts * 3000, 90_000, packet.is_keyframe, 0.0, None)
        for packet in packets
    ]


def audio_frames(codec: str, count: int) -> list[EncodedFrame]:
    """Return ``count`` audio packets of 20 ms. ``codec``: FFmpeg's name."""
    library, rate = {"opus": ("libopus", 48_000), "g722": ("g722", 16_000)}.get(codec, (codec, 8_000))
    encoder: Any = av.CodecContext.create(library, "w")
    encoder.sample_rate, encoder.format = rate, "s16"
    encoder.layout = "stereo" if codec == "opus" else "mono"
    samples = rate // 50
    clock = 48_000 if codec == "opus" else 8_000  # also for G.722 (RFC 3551 section 4.5.2)
    packets = []
    for number in range(count):
        silence = np.zeros((1, samples * encoder.layout.nb_channels), np.int16)
        frame = av.AudioFrame.from_ndarray(silence, format="s16", layout=encoder.layout.name)
        frame.sample_rate, frame.pts = rate, number * samples
        packets += encoder.encode(frame)
    return [
        EncodedFrame("audio", codec, bytes(packet), number * clock // 50, clock, True, 0.0, None)
        for number, packet in enumerate(packets)
    ]
