"""One video or sound encoder of FFmpeg's, set for real time. Blocking: threads only.

Settings were measured on the clip of docs/benchmarks/sending.md, 720p at 2.8 Mbit/s on one core: libvpx at speed 8
without its denoiser takes 11 ms a picture (the engine's settings 15, and 4 dB worse), x264 at "superfast" 8 ms
("medium", the engine's, 38, and 0.3 dB better; "ultrafast" 5.5, and 6 dB worse). One thread each: several of them
spin for each other (libvpx with two took 73 ms of two busy cores), and there may be other encoders to run.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
from av.audio.codeccontext import AudioCodecContext
from av.audio.resampler import AudioResampler
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from ...codecs.h264 import IDR, SPS, nal_units
from .. import picture
from ..frames import VIDEO_TIME_BASE

log = logging.getLogger(__name__)

OPUS_BITRATE: Final = 64_000
"""Bit/s: full-band stereo speech and most music (RFC 7587 3.1.1)."""

_LARGE: Final = 1920 * 1080
"""Pixels from which one thread may not keep up."""

_PROBE_PICTURES: Final = 8


@dataclass(frozen=True, slots=True)
class _Choice:
    """One FFmpeg encoder, with its options at a bitrate."""

    name: str
    options: Mapping[str, str]
    profile: str | None = None
    window: float = 1.0
    """Seconds of the bitrate that the decoder is thought to buffer: what a single picture may take of it."""


_VP8: Final = (
    _Choice(
        "libvpx",
        {
            "deadline": "realtime",
            "cpu-used": "-8",
            "lag-in-frames": "0",
            "static-thresh": "1",
            "overshoot-pct": "15",
            "undershoot-pct": "100",
            "drop-threshold": "20",  # percent of its buffer below which a picture is left out; else 300k makes 430k
            "max-intra-rate": "900",  # percent of a picture's share: what libwebrtc allows a key frame at 30 fps
        },
    ),
)

_H264: Final = (
    _Choice(
        "h264_nvenc",
        {"preset": "p4", "tune": "ull", "zerolatency": "1", "delay": "0", "rc": "cbr", "forced-idr": "1", "bf": "0"},
        "baseline",
        0.5,
    ),
    _Choice(
        "h264_qsv",
        {"preset": "veryfast", "async_depth": "1", "low_delay_brc": "1", "forced_idr": "1", "bf": "0"},
        "baseline",
        0.5,
    ),
    _Choice("h264_v4l2m2m", {}, "baseline", 0.5),
    _Choice("libx264", {"preset": "superfast", "tune": "zerolatency", "x264-params": "scenecut=0"}, "Baseline", 0.5),
)
"""Hardware first. Key frames only when they are asked for: a cut in a film is no reason for one on the wire."""

_tried: Final[dict[str, bool]] = {}
"""Hardware encoders that were tried in this process, and whether they do what they must. One that fails later does
not, from then on."""


@dataclass(frozen=True, slots=True)
class Coded:
    """One coded picture or piece of sound. ``pts`` in the codec's RTP clock."""

    data: bytes
    pts: int
    key: bool


class VideoEncoder:
    """Codes pictures of one size. ``codec``: ``vp8`` or ``h264``; ``bitrate`` in bit/s, kept over a second or so.

    ``hardware``: whether the machine's own encoders may be taken, where they work.

    Raises:
        av.FFmpegError: there is no encoder for it.
    """

    def __init__(
        self, codec: str, width: int, height: int, fps: float, bitrate: int, *, hardware: bool = True
    ) -> None:
        self._context = _open(_VP8 if codec == "vp8" else _H264, width, height, fps, bitrate, hardware)
        self.name: str = self._context.name
        """FFmpeg's name of the encoder that is used."""

    def encode(self, frame: av.VideoFrame, *, key: bool) -> list[Coded]:
        """The coded pictures that are ready, usually one. ``frame`` is yuv420p of the encoder's size, its pts later
        than the one before, in ``VIDEO_TIME_BASE``; it belongs to everybody and is not written to.

        Raises:
            av.FFmpegError: the encoder failed; make another.
        """
        if key:
            frame = picture.copy(frame, frame.pts or 0)
            frame.pict_type = PictureType.I
        try:
            packets = self._context.encode(frame)
        except av.FFmpegError:
            _tried[self.name] = False
            raise
        now = frame.pts or 0
        return [
            Coded(bytes(packet), now if packet.pts is None else packet.pts, packet.is_keyframe) for packet in packets
        ]


def _open(
    choices: tuple[_Choice, ...], width: int, height: int, fps: float, bitrate: int, hardware: bool
) -> VideoCodecContext:
    """The first of ``choices`` that works here; the last one is software."""
    for choice in choices[:-1] if hardware else ():
        if choice.name not in _tried:
            _tried[choice.name] = _works(choice)
        if _tried[choice.name]:
            try:
                return _context(choice, width, height, fps, bitrate)
            except av.FFmpegError as exc:
                log.info("%s cannot code %dx%d (%s)", choice.name, width, height, exc)
    return _context(choices[-1], width, height, fps, bitrate)


def _works(choice: _Choice) -> bool:
    """Whether the encoder opens, codes each picture at once and makes an IDR picture with its SPS when told to.

    That an encoder is compiled in says nothing about the machine, and that it opens says little about its driver.
    """
    try:
        context = _context(choice, 640, 480, 30, 500_000)
        black = picture.card(640, 480, "")
        keys = []
        for n in range(_PROBE_PICTURES):
            frame = picture.copy(black, n * 3000)
            frame.pict_type = PictureType.I if n == _PROBE_PICTURES - 1 else PictureType.NONE
            packets = context.encode(frame)
            if len(packets) != 1:
                raise ValueError(f"{len(packets)} packets for a picture")
            kinds = {unit[0] & 0x1F for unit in nal_units(bytes(packets[0]))}
            keys.append({IDR, SPS} <= kinds)
        if keys != [True] + [False] * (_PROBE_PICTURES - 2) + [True]:
            raise ValueError("it makes no key frame when told to")
    except (av.FFmpegError, ValueError) as exc:
        log.debug("no %s here: %s", choice.name, exc)
        return False
    log.info("pictures are coded by %s", choice.name)
    return True


def _context(choice: _Choice, width: int, height: int, fps: float, bitrate: int) -> VideoCodecContext:
    context = av.CodecContext.create(choice.name, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = Fraction(fps).limit_denominator(1001), VIDEO_TIME_BASE
    context.bit_rate = bitrate
    context.gop_size = 1 << 20  # pictures; never by itself
    context.max_b_frames = 0
    if choice.name == "libvpx":
        context.qmin, context.qmax = 2, 56  # libwebrtc's: never worse than moving, never better than can be seen
    if choice.profile is not None:
        context.profile = choice.profile
    window = round(bitrate * choice.window)
    limits = {"minrate": bitrate, "maxrate": bitrate, "bufsize": window}
    context.options = {**choice.options, **{name: str(value) for name, value in limits.items()}}
    context.thread_count = 2 if width * height >= _LARGE else 1
    context.open()
    return context


_SOUND: Final = {
    "opus": ("libopus", 48_000, "stereo"),
    "pcm_mulaw": ("pcm_mulaw", 8_000, "mono"),
    "pcm_alaw": ("pcm_alaw", 8_000, "mono"),
    "g722": ("g722", 16_000, "mono"),
}


class AudioEncoder:
    """Codes sound in packets of 20 ms. ``codec``: ``opus``, ``pcm_mulaw``, ``pcm_alaw`` or ``g722``."""

    def __init__(self, codec: str) -> None:
        name, rate, layout = _SOUND[codec]
        self.clock_rate = 48_000 if codec == "opus" else 8_000
        """RTP's, which for G.722 is half of the samples (RFC 3551 4.5.2)."""
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate, context.layout, context.format = rate, layout, "s16"
        context.time_base = Fraction(1, rate)
        if codec == "opus":
            context.bit_rate = OPUS_BITRATE
        self._context = context
        self._resampler = AudioResampler(format="s16", layout=layout, rate=rate, frame_size=rate // 50)

    def encode(self, frame: av.AudioFrame) -> list[Coded]:
        """``frame``: 20 ms of s16 stereo at 48 kHz.

        Raises:
            av.FFmpegError: the encoder failed; make another.
        """
        return [
            Coded(bytes(packet), self._moment(part), True)
            for part in self._resampler.resample(frame)
            for packet in self._context.encode(part)
        ]

    def _moment(self, part: av.AudioFrame) -> int:
        assert part.pts is not None and part.time_base is not None  # the resampler keeps count
        return round(part.pts * part.time_base * self.clock_rate)
