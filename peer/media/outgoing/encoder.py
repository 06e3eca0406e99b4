"""Video and audio encoders of FFmpeg, configured for real time. Blocking: threads only.

The settings were measured with the clip of docs/benchmarks/sending.md, 720p at 2.8 Mbit/s on one core. Times are per
frame:

    libvpx   cpu-used 8, no denoiser    11 ms
             aiortc's settings          15 ms, quality 4 dB lower
    x264     superfast                   8 ms
             medium (aiortc's)          38 ms, quality 0.3 dB higher
             ultrafast                 5.5 ms, quality 6 dB lower

Each encoder has one thread. Several threads spin while they wait for each other (libvpx with two took 73 ms of two
busy cores), and other encoders may need the cores.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from .encoder_probe import EncoderProbe

log = logging.getLogger(__name__)

OPUS_BITRATE: Final = 64_000
"""Bitrate of Opus, in bit/s, for full-band stereo speech and most music (RFC 7587 section 3.1.1)."""

_TWO_THREADS_FROM: Final = 1920 * 1080
"""Frame size from which an encoder gets a second thread, in pixels. One may be too slow."""

_TRIAL_FRAMES: Final = 8
"""Number of frames encoded to find out whether an encoder works."""


@dataclass(frozen=True, slots=True)
class _EncoderSpec:
    """One FFmpeg encoder and its options."""

    name: str
    options: Mapping[str, str]
    profile: str | None = None
    buffer_seconds: float = 1.0
    """Size of the rate control buffer (VBV), in seconds at the bitrate. It limits the size of a single frame."""


_VP8: Final = (
    _EncoderSpec(
        "libvpx",
        {
            "deadline": "realtime",
            "cpu-used": "-8",
            "lag-in-frames": "0",
            "static-thresh": "1",
            "overshoot-pct": "15",
            "undershoot-pct": "100",
            "drop-threshold": "20",  # drops frames below 20% of the buffer; otherwise it exceeds 300 kbit/s by 43%
            "max-intra-rate": "900",  # maximum key frame size, in percent of the mean frame size (libwebrtc, 30 fps)
        },
    ),
)

_H264: Final = (
    _EncoderSpec(
        "h264_nvenc",
        {"preset": "p4", "tune": "ull", "zerolatency": "1", "delay": "0", "rc": "cbr", "forced-idr": "1", "bf": "0"},
        "baseline",
        0.5,
    ),
    _EncoderSpec(
        "h264_qsv",
        {"preset": "veryfast", "async_depth": "1", "low_delay_brc": "1", "forced_idr": "1", "bf": "0"},
        "baseline",
        0.5,
    ),
    _EncoderSpec("h264_v4l2m2m", {}, "baseline", 0.5),
    _EncoderSpec(
        "libx264", {"preset": "superfast", "tune": "zerolatency", "x264-params": "scenecut=0"}, "Baseline", 0.5
    ),
)
"""Hardware encoders first. Key frames are made on request only; a scene cut does not need one."""


def _with_slices(max_size: int) -> _EncoderSpec:
    """Return the software encoder of H.264 with as many slices per frame as fit into ``max_size`` bytes each.

    Measured at 720p and 2.8 Mbit/s, 11 slices per frame: the same quality and bitrate, and 1% more CPU time.
    """
    software = _H264[-1]
    params = f"{software.options['x264-params']}:slice-max-size={max_size}"
    return replace(software, options={**software.options, "x264-params": params})


_probe = EncoderProbe()
"""Which hardware encoders work. One that fails later is not used again."""


@dataclass(frozen=True, slots=True)
class EncodedPacket:
    """One encoded video frame or audio packet."""

    data: bytes
    pts: int
    """In units of the codec's RTP clock."""
    key: bool


class VideoEncoder:
    """Encoder of video frames of one size. ``codec`` is ``vp8`` or ``h264``.

    ``bitrate`` is a mean over about a second, in bit/s. ``hardware`` allows hardware encoders, where they work.
    ``max_slice_size``, of H.264, is the maximum size of a NAL unit, in bytes. It excludes hardware encoders, which
    have no such limit or ignore it.

    Raises:
        av.FFmpegError: FFmpeg has no encoder for the codec.
    """

    def __init__(
        self,
        codec: str,
        width: int,
        height: int,
        fps: float,
        bitrate: int,
        *,
        hardware: bool = True,
        max_slice_size: int | None = None,
    ) -> None:
        specs = _VP8 if codec == "vp8" else _H264 if max_slice_size is None else (_with_slices(max_slice_size),)
        self._context = _open(specs, width, height, fps, bitrate, hardware)
        self.name: str = self._context.name
        """FFmpeg's name of the encoder in use."""

    def encode(self, frame: av.VideoFrame, *, key: bool) -> list[EncodedPacket]:
        """Encode ``frame`` and return the packets that are ready, usually one. ``key`` forces a key frame.

        ``frame`` is in yuv420p and of the encoder's size. Its pts, in ``VIDEO_TIME_BASE``, is later than the previous
        one. It is shared with others, and not modified.

        Raises:
            av.FFmpegError: the encoder failed and cannot be used again.
        """
        if key:
            frame = picture.copy(frame, frame.pts or 0)
            frame.pict_type = PictureType.I
        try:
            packets = self._context.encode(frame)
        except av.FFmpegError:
            _probe.disable(self.name)
            raise
        pts = frame.pts or 0
        return [
            EncodedPacket(bytes(packet), pts if packet.pts is None else packet.pts, packet.is_keyframe)
            for packet in packets
        ]


def _open(
    specs: tuple[_EncoderSpec, ...], width: int, height: int, fps: float, bitrate: int, hardware: bool
) -> VideoCodecContext:
    """Open the first of ``specs`` that works on this machine. The last one is a software encoder."""
    for spec in specs[:-1] if hardware else ():
        if _probe.works(spec.name):
            try:
                return _context(spec, width, height, fps, bitrate)
            except av.FFmpegError as exc:
                log.info("%s cannot encode %dx%d: %s", spec.name, width, height, exc)
    return _context(specs[-1], width, height, fps, bitrate)


def trial(name: str) -> str | None:
    """Try hardware encoder ``name`` and return why it does not work, or ``None``. May crash this process."""
    return _problem(next(spec for spec in _H264 if spec.name == name))


def _problem(spec: _EncoderSpec) -> str | None:
    """Return why the encoder does not open, encode without delay, or make an IDR frame with its SPS on request.

    FFmpeg lists encoders for hardware that the machine lacks, and an encoder that opens may still have a bad driver.
    """
    try:
        context = _context(spec, 640, 480, 30, 500_000)
        blank = picture.card(640, 480, "")
        keys = []
        for n in range(_TRIAL_FRAMES):
            frame = picture.copy(blank, n * 3000)
            frame.pict_type = PictureType.I if n == _TRIAL_FRAMES - 1 else PictureType.NONE
            packets = context.encode(frame)
            if len(packets) != 1:
                raise ValueError(f"{len(packets)} packets per frame")
            types = {unit[0] & 0x1F for unit in nal_units(bytes(packets[0]))}
            keys.append({IDR, SPS} <= types)
        if keys != [True] + [False] * (_TRIAL_FRAMES - 2) + [True]:
            raise ValueError("it makes no key frame on request, or some without request")
    except (av.FFmpegError, ValueError) as exc:
        return str(exc)
    return None


def _context(spec: _EncoderSpec, width: int, height: int, fps: float, bitrate: int) -> VideoCodecContext:
    context = av.CodecContext.create(spec.name, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.framerate, context.time_base = Fraction(fps).limit_denominator(1001), VIDEO_TIME_BASE
    context.bit_rate = bitrate
    context.gop_size = 1 << 20  # frames: key frames on request only
    context.max_b_frames = 0
    if spec.name == "libvpx":
        context.qmin, context.qmax = 2, 56  # libwebrtc's: no waste on invisible quality, no unusable quality
    if spec.profile is not None:
        context.profile = spec.profile
    buffer_size = round(bitrate * spec.buffer_seconds)
    limits = {"minrate": bitrate, "maxrate": bitrate, "bufsize": buffer_size}
    context.options = {**spec.options, **{name: str(value) for name, value in limits.items()}}
    context.thread_count = 2 if width * height >= _TWO_THREADS_FROM else 1
    context.open()
    return context


_AUDIO_CODECS: Final = {
    "opus": ("libopus", 48_000, "stereo"),
    "pcm_mulaw": ("pcm_mulaw", 8_000, "mono"),
    "pcm_alaw": ("pcm_alaw", 8_000, "mono"),
    "g722": ("g722", 16_000, "mono"),
}


class AudioEncoder:
    """Encoder of audio in packets of 20 ms. ``codec`` is ``opus``, ``pcm_mulaw``, ``pcm_alaw`` or ``g722``."""

    def __init__(self, codec: str) -> None:
        name, rate, layout = _AUDIO_CODECS[codec]
        self.clock_rate = 48_000 if codec == "opus" else 8_000
        """Clock rate of RTP timestamps, which for G.722 is half the sample rate (RFC 3551 section 4.5.2)."""
        context = av.CodecContext.create(name, "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate, context.layout, context.format = rate, layout, "s16"
        context.time_base = Fraction(1, rate)
        if codec == "opus":
            context.bit_rate = OPUS_BITRATE
        self._context = context
        self._resampler = AudioResampler(format="s16", layout=layout, rate=rate, frame_size=rate // 50)

    def encode(self, frame: av.AudioFrame) -> list[EncodedPacket]:
        """Encode ``frame``, 20 ms in s16 stereo at 48 kHz.

        Raises:
            av.FFmpegError: the encoder failed and cannot be used again.
        """
        return [
            EncodedPacket(bytes(packet), self._pts(part), True)
            for part in self._resampler.resample(frame)
            for packet in self._context.encode(part)
        ]

    def _pts(self, part: av.AudioFrame) -> int:
        assert part.pts is not None and part.time_base is not None  # the resampler sets them
        return round(part.pts * part.time_base * self.clock_rate)
