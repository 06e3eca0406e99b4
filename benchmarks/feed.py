"""Shared by the receive benchmarks: pre-encoded media, and plain aiortc to send it.

A track that returns ``av.Packet`` bypasses aiortc's encoder, so the sender uses little CPU and is the same for every
receiver.
"""

from __future__ import annotations

import asyncio
import time
from fractions import Fraction
from typing import Any

import av
import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcconfiguration import RTCBundlePolicy

VIDEO_CLOCK, AUDIO_CLOCK = 90_000, 48_000


def encoded_video(width: int, height: int, fps: int, bitrate: int, count: int, key_every: int = 60) -> list[bytes]:
    """Return ``count`` VP8 frames at about ``bitrate`` bit/s: aiortc's real-time settings, and moving video with
    enough noise to use up the bitrate. The first frame and every ``key_every``-th is a key frame."""
    graph = av.filter.Graph()
    source = graph.add("testsrc2", f"size={width}x{height}:rate={fps}")
    noise, form, sink = graph.add("noise", "alls=10:allf=t"), graph.add("format", "yuv420p"), graph.add("buffersink")
    source.link_to(noise)
    noise.link_to(form)
    form.link_to(sink)
    graph.configure()
    encoder: Any = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, fps), Fraction(fps)
    encoder.bit_rate, encoder.gop_size = bitrate, key_every
    rate = {"minrate": str(bitrate), "maxrate": str(bitrate), "bufsize": str(bitrate)}
    encoder.options = {"cpu-used": "-8", "deadline": "realtime", "lag-in-frames": "0", **rate}
    encoded: list[bytes] = []
    while len(encoded) < count:
        frame: Any = graph.pull()
        frame.pict_type, frame.pts, frame.time_base = av.video.frame.PictureType.NONE, len(encoded), Fraction(1, fps)
        encoded += [bytes(packet) for packet in encoder.encode(frame)]
    return encoded


def encoded_audio(count: int) -> list[bytes]:
    """Return ``count`` Opus packets of 20 ms: noise at 64 kbit/s."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout = AUDIO_CLOCK, "s16", "stereo"
    encoder.bit_rate, encoder.time_base = 64_000, Fraction(1, AUDIO_CLOCK)
    noise = np.random.default_rng(3)
    encoded: list[bytes] = []
    while len(encoded) < count:
        samples = noise.integers(-3000, 3000, (1, 1920), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate, frame.pts = AUDIO_CLOCK, 960 * len(encoded)
        encoded += [bytes(packet) for packet in encoder.encode(frame)]
    return encoded


class EncodedTrack(MediaStreamTrack):
    """A track of encoded packets, sent in real time, in a loop."""

    def __init__(self, kind: str, encoded: list[bytes], rate: int, clock: int) -> None:
        super().__init__()
        self.kind = kind
        self._encoded, self._rate, self._clock = encoded, rate, clock
        self._number = 0
        self._started: float | None = None

    async def recv(self) -> Any:
        if self.readyState != "live":
            raise MediaStreamError
        if self._started is None:
            self._started = time.monotonic()
        await asyncio.sleep(max(0.0, self._started + self._number / self._rate - time.monotonic()))
        packet = av.Packet(self._encoded[self._number % len(self._encoded)])
        packet.pts, packet.time_base = self._number * self._clock // self._rate, Fraction(1, self._clock)
        self._number += 1
        return packet


def open_bare() -> RTCPeerConnection:
    """A plain aiortc connection without ICE servers."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
