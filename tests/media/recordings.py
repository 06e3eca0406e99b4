"""Encoded streams for the recorder's tests, with a flash and a beep every second to measure skew."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Literal

import av
import numpy as np

from peer.media.frames import EncodedFrame

FPS = 30
FLASH = 0.1
"""Duration of the white frames and the tone at the start of each second, in seconds."""

_ENCODERS = {
    "vp8": ("libvpx", {"deadline": "realtime", "lag-in-frames": "0", "cpu-used": "8"}),
    "h264": ("libx264", {"preset": "ultrafast", "tune": "zerolatency"}),
}


@cache
def video_frames(
    codec: str, seconds: int, width: int = 320, height: int = 240, *, gop: int = FPS
) -> tuple[EncodedFrame, ...]:
    """Return ``seconds`` of video with a key frame every ``gop`` frames. ``arrival`` starts at zero, timestamps at 90
    million."""
    name, options = _ENCODERS[codec]
    context = av.VideoCodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base, context.framerate, context.bit_rate = Fraction(1, 90_000), Fraction(FPS), 300_000
    context.gop_size, context.options = gop, options
    packets = []
    for n in range(seconds * FPS):
        level = 235 if n % FPS < FLASH * FPS else 40
        frame = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), level, np.uint8), "yuv420p")
        frame.pts = n * 90_000 // FPS
        packets += context.encode(frame)
    packets += context.encode(None)
    return tuple(_frame("video", codec, packet, 90_000, 90_000_000) for packet in packets)


@cache
def audio_frames(seconds: int, codec: str = "opus") -> tuple[EncodedFrame, ...]:
    """Return ``seconds`` of audio in packets of 20 ms, with a tone of 1 kHz at the start of each second."""
    name, rate = {"opus": ("libopus", 48_000), "pcm_mulaw": ("pcm_mulaw", 8000)}[codec]
    context = av.AudioCodecContext.create(name, "w")
    context.sample_rate, context.format, context.layout = rate, "s16", "mono"
    context.time_base = Fraction(1, rate)
    at = np.arange(seconds * rate) / rate
    wave = (np.sin(2 * np.pi * 1000 * at) * (at % 1 < FLASH) * 12_000).astype(np.int16)
    packets = []
    for n in range(seconds * 50):
        frame = av.AudioFrame.from_ndarray(wave[None, n * rate // 50 : (n + 1) * rate // 50], "s16", "mono")
        frame.sample_rate, frame.pts = rate, n * rate // 50
        packets += context.encode(frame)
    return tuple(_frame("audio", codec, packet, rate, 777_000) for packet in packets)


def _frame(kind: Literal["video", "audio"], codec: str, packet: av.Packet, rate: int, origin: int) -> EncodedFrame:
    pts = max(packet.pts or 0, 0)  # libopus starts before zero, by its look-ahead
    key = kind == "audio" or packet.is_keyframe
    return EncodedFrame(kind, codec, bytes(packet), origin + pts, rate, key, pts / rate, None)


def delayed(frames: tuple[EncodedFrame, ...], seconds: float) -> list[EncodedFrame]:
    """Return the frames as if the network had delayed them: later arrival, same timestamps."""
    return [replace(frame, arrival=frame.arrival + seconds) for frame in frames]


def repeated(frames: tuple[EncodedFrame, ...], times: int) -> list[EncodedFrame]:
    """Return ``frames`` repeated with continuing times. Their duration must be whole seconds."""
    seconds = round(frames[-1].arrival)
    return [
        replace(
            frame,
            arrival=frame.arrival + n * seconds,
            timestamp=frame.timestamp + n * seconds * frame.clock_rate,
        )
        for n in range(times)
        for frame in frames
    ]


def payloads(path: Path) -> dict[str, list[bytes]]:
    """Return the packets of a Matroska file by kind, unchanged."""
    found: dict[str, list[bytes]] = {}
    with av.open(str(path)) as file:
        for packet in file.demux():
            if packet.size:
                found.setdefault(packet.stream.type, []).append(bytes(packet))
    return found


def ffmpeg(*args: str | Path) -> None:
    """Run ``ffmpeg``. Fails if it reports any error in its input."""
    command = ["ffmpeg", "-v", "error", *map(str, args)]
    process = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    assert process.returncode == 0 and not process.stderr, process.stderr


def concatenate(paths: Iterable[Path], output: Path) -> None:
    """Concatenate the files without encoding them again."""
    listed = output.with_suffix(".txt")
    listed.write_text("".join(f"file '{path}'\n" for path in paths))
    ffmpeg("-f", "concat", "-safe", "0", "-i", listed, "-c", "copy", output)


@dataclass(frozen=True)
class Analysis:
    """What a completely decoded file shows. Times are in seconds."""

    frame_times: list[float]
    sizes: list[tuple[int, int]]
    flashes: list[float]
    """Times at which flashes start."""
    beeps: list[float]
    """Times at which beeps start."""
    audio_seconds: float


def analyze(path: Path) -> Analysis:
    """Decode ``path`` and find where flashes and beeps start."""
    times, sizes, levels, samples = [], [], [], []
    with av.open(str(path)) as file:
        rate, begin = 48_000, None
        for frame in _decoded(file):
            if isinstance(frame, av.VideoFrame):
                times.append(float(frame.time or 0))
                sizes.append((frame.width, frame.height))
                levels.append(float(np.frombuffer(memoryview(frame.planes[0]), np.uint8).mean()))
            else:
                rate = frame.sample_rate
                begin = float(frame.time or 0) if begin is None else begin
                data = frame.to_ndarray().astype(float)
                mono = data.reshape(-1, len(frame.layout.channels))[:, 0] if not frame.format.is_planar else data[0]
                samples.append(mono / (32768 if frame.format.name.startswith("s16") else 1))
    bright = np.array(levels) > 130
    flashes = [t for n, t in enumerate(times) if bright[n] and (n == 0 or not bright[n - 1])]
    beeps: list[float] = []
    wave = np.abs(np.concatenate(samples)) if samples else np.zeros(0)
    for at in np.flatnonzero(wave > 0.1) / rate + (begin or 0):
        if not beeps or at - beeps[-1] > 0.5:
            beeps.append(float(at))
    return Analysis(times, sizes, flashes, beeps, len(wave) / rate)


def _decoded(file: av.container.InputContainer) -> Iterator[av.VideoFrame | av.AudioFrame]:
    for frame in file.decode():
        assert isinstance(frame, av.VideoFrame | av.AudioFrame)
        yield frame
