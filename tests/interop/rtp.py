"""Media for stacks that only carry RTP: what they send is encoded here, and what they receive is decoded here."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np

from peer.media.test_pattern import dominant_frequency
from peer.rtp.depacketizer import depacketize
from peer.rtp.packet import Packet, parse

COLOR: Final = (200, 40, 40)
"""Color of the video that a counterpart sends."""

FREQUENCY: Final = 600
"""Frequency of the audio that a counterpart sends, in Hz."""

PAYLOAD_TYPE: Final = {"audio": 111, "video": 96}
"""Payload types towards a counterpart, which replaces them by the negotiated ones."""

FPS: Final = 15
AUDIO_RATE: Final = 48_000
AUDIO_FRAME: Final = 960  # 20 ms
MAX_PAYLOAD: Final = 1100


@dataclass
class Received:
    """Media that a counterpart has received."""

    frames: int
    """Decoded video frames."""
    width: int
    height: int
    frequency: float
    """Frequency of the last audio in Hz; 0 for silence."""


@functools.cache
def video_clip() -> list[list[bytes]]:
    """One second of VP8 that begins with a key frame: the RTP payloads (RFC 7741) of each frame."""
    encoder: Any = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 160, 120, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.bit_rate = Fraction(1, FPS), Fraction(FPS), 200_000
    encoder.options = {"deadline": "realtime", "lag-in-frames": "0"}
    frames = []
    for number in range(FPS):
        image = np.full((120, 160, 3), COLOR, np.uint8)
        image[56:64, number * 8 : number * 8 + 8] = 255
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts = number
        frames += [bytes(packet) for packet in encoder.encode(frame)]
    return [
        [(b"\x10" if at == 0 else b"\x00") + frame[at : at + MAX_PAYLOAD] for at in range(0, len(frame), MAX_PAYLOAD)]
        for frame in frames
    ]


@functools.cache
def audio_clip() -> list[bytes]:
    """One second of Opus, in payloads of 20 ms (RFC 7587)."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = AUDIO_RATE, "stereo", "s16"
    wave = 8000 * np.sin(2 * np.pi * FREQUENCY * np.arange(AUDIO_RATE) / AUDIO_RATE)
    samples = np.repeat(wave.astype(np.int16), 2)
    packets = []
    for number in range(AUDIO_RATE // AUDIO_FRAME):
        part = samples[2 * number * AUDIO_FRAME : 2 * (number + 1) * AUDIO_FRAME]
        frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts = AUDIO_RATE, number * AUDIO_FRAME
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


@contextlib.asynccontextmanager
async def sending(port: int) -> AsyncIterator[None]:
    """Send the clips in a loop, in real time, to this UDP port of loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.connect(("127.0.0.1", port))
        tasks = [asyncio.create_task(_send_audio(udp)), asyncio.create_task(_send_video(udp))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _send_audio(udp: socket.socket) -> None:
    clip = audio_clip()
    started = time.monotonic()
    number = 0
    while True:
        _send(udp, "audio", number, number * AUDIO_FRAME, clip[number % len(clip)], False)
        number += 1
        await asyncio.sleep(started + number * AUDIO_FRAME / AUDIO_RATE - time.monotonic())


async def _send_video(udp: socket.socket) -> None:
    clip = video_clip()
    started = time.monotonic()
    sequence_number = number = 0
    while True:
        payloads = clip[number % len(clip)]
        for payload in payloads:
            _send(udp, "video", sequence_number, number * 90_000 // FPS, payload, payload is payloads[-1])
            sequence_number += 1
        number += 1
        await asyncio.sleep(started + number / FPS - time.monotonic())


def _send(udp: socket.socket, kind: str, sequence_number: int, timestamp: int, payload: bytes, marker: bool) -> None:
    header = struct.pack("!BBHLL", 0x80, marker << 7 | PAYLOAD_TYPE[kind], sequence_number & 0xFFFF, timestamp, 1)
    with contextlib.suppress(ConnectionRefusedError):  # the counterpart has closed the connection
        udp.send(header + payload)


@dataclass
class Sink:
    """A decoder of the RTP that a counterpart received. ``need_key_frame`` is called when decoding cannot start."""

    need_key_frame: Callable[[], None]
    frames: int = 0
    width: int = 0
    height: int = 0
    arrivals: list[float] = field(default_factory=list)
    """Arrival times of all packets, in seconds of the monotonic clock."""
    _samples: deque[Any] = field(default_factory=lambda: deque(maxlen=25))

    def __post_init__(self) -> None:
        self._video: Any = None
        self._audio: Any = av.CodecContext.create("libopus", "r")
        self._frame: list[Packet] = []
        self._next: int | None = None

    def received(self) -> Received:
        """Return what has been decoded."""
        samples = np.concatenate(self._samples) if self._samples else np.zeros(0)
        return Received(self.frames, self.width, self.height, dominant_frequency(samples, AUDIO_RATE))

    def feed(self, kind: str, data: bytes) -> None:
        """Decode one packet."""
        self.arrivals.append(time.monotonic())
        packet = parse(data)
        if not packet.payload:
            return
        if kind == "audio":
            for frame in self._audio.decode(av.Packet(packet.payload)):
                array = frame.to_ndarray()
                self._samples.append(array[0] if frame.format.is_planar else array.reshape(-1, 2)[:, 0])
            return
        if self._next is not None and packet.sequence_number != self._next:
            self._video = None  # a loss: the following frames refer to an incomplete one
            self._frame.clear()
        self._next = (packet.sequence_number + 1) & 0xFFFF
        self._frame.append(packet)
        if packet.marker:
            self._decode()

    def _decode(self) -> None:
        parts = [depacketize("vp8", packet.payload) for packet in self._frame]
        self._frame.clear()
        if parts[0].key_frame:
            self._video = av.CodecContext.create("vp8", "r")
        elif self._video is None:
            self.need_key_frame()
            return
        for frame in self._video.decode(av.Packet(b"".join(part.data for part in parts))):
            self.frames += 1
            self.width, self.height = frame.width, frame.height


class _Protocol(asyncio.DatagramProtocol):
    def __init__(self, sink: Sink, kind: str) -> None:
        self._sink, self._kind = sink, kind

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._sink.feed(self._kind, data)


@contextlib.asynccontextmanager
async def listening(sink: Sink) -> AsyncIterator[dict[str, int]]:
    """Feed ``sink`` from a UDP port per kind. Yields the ports."""
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        ports = {}
        for kind in ("audio", "video"):
            transport, _ = await loop.create_datagram_endpoint(
                functools.partial(_Protocol, sink, kind), local_addr=("127.0.0.1", 0)
            )
            stack.callback(transport.close)
            ports[kind] = transport.get_extra_info("sockname")[1]
        yield ports
