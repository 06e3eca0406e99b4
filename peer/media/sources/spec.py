"""Parsing of ``--video``, ``--audio`` and other media options. Pure; imports only the standard library."""

from __future__ import annotations

import math
import os
import re
import shlex
from dataclasses import dataclass
from typing import Final, Literal

from peer.errors import ConfigError, redacted

Kind = Literal["auto", "none", "same", "test", "screen", "device", "file", "rtsp", "exec"]

_LOOP: Final = "?loop"
_H264: Final = "?h264"

_DEVICE: Final = re.compile(r"\d{1,4}", re.ASCII)
_SUFFIX: Final = re.compile(r"\.(?=\w*[A-Za-z])\w{1,5}\Z")
"""A file name's suffix, such as ``.mp4`` or ``.h264``. The end of a camera's name such as "USB 2.0" is none."""

_EXEC: Final = "exec:"

_SIZE: Final = re.compile(r"(\d{1,5})\s*[xX]\s*(\d{1,5})")
_SIDE_RANGE: Final = (64, 7_680)
"""Minimum and maximum width or height, in pixels: what VP8 and H.264 encoders accept, up to 8K."""

_BITRATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmM]?)(?:bit/s|bps)?")
_BITRATE_RANGE: Final = (30_000, 100_000_000)
"""Minimum and maximum bitrate, in bit/s. Less leaves no usable picture; more is a typing error."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class _Spec:
    kind: Kind
    target: str = ""
    """Path of the device or file, name of the camera or ALSA device, URL, X display, or command; empty for kinds that
    need none."""
    loop: bool = False
    """Whether a file is played in a loop."""


@dataclass(frozen=True, slots=True)
class VideoSpec(_Spec):
    """A source of video."""

    h264: bool = False
    """Whether the camera must deliver H.264 that it encoded itself."""


@dataclass(frozen=True, slots=True)
class AudioSpec(_Spec):
    """A source of audio."""


def parse_video(text: str) -> VideoSpec:
    """Parse ``auto|none|test|screen|DEVICE|DEVICE?h264|FILE|FILE?loop|rtsp://...|exec:COMMAND``.

    A ``DEVICE`` is ``/dev/...`` or its number, or the name or serial number of a camera. Text with a slash or a
    suffix, or the path of an existing file, is a ``FILE``.

    Raises:
        ConfigError: ``text`` is none of these.
    """
    if text in ("auto", "none", "test", "screen"):
        return VideoSpec(text)  # type: ignore[arg-type]
    if text.startswith(_EXEC):
        return VideoSpec("exec", _command(text, "--video"))
    if text.startswith("screen:"):
        return VideoSpec("screen", text.removeprefix("screen"))
    if _is_url(text):
        return VideoSpec("rtsp", _url(text, "--video"))
    if text.startswith("/dev/"):
        return VideoSpec("device", text.removesuffix(_H264), h264=text.endswith(_H264))
    number = text.removesuffix(_H264)
    if _DEVICE.fullmatch(number) and not os.path.exists(text):
        return VideoSpec("device", f"/dev/video{int(number)}", h264=number != text)
    if not text.strip():
        raise ConfigError(
            "the value is empty; try auto, none, test, screen, /dev/video0, a file or rtsp://...", where="--video"
        )
    path, loop = _split_loop(text)
    if loop or "/" in path or os.path.exists(path) or _SUFFIX.search(path):
        return VideoSpec("file", path, loop)
    return VideoSpec("device", number, h264=number != text)


def parse_audio(text: str) -> AudioSpec:
    """Parse ``auto|none|same|test|DEVICE|FILE|FILE?loop|rtsp://...|exec:COMMAND``.

    ``same`` is the audio of the video's source, if it has any. A ``DEVICE`` is an ALSA name: ``default``, ``pulse``,
    ``hw:1,0``, ``plughw:CARD=Webcam``. Text with a slash or a suffix, or the path of an existing file, is a ``FILE``.

    Raises:
        ConfigError: ``text`` is none of these.
    """
    if text in ("auto", "none", "same", "test"):
        return AudioSpec(text)  # type: ignore[arg-type]
    if text.startswith(_EXEC):
        return AudioSpec("exec", _command(text, "--audio"))
    if _is_url(text):
        return AudioSpec("rtsp", _url(text, "--audio"))
    if not text.strip() or text == "screen":
        raise ConfigError(
            f"{text!r} is no microphone, file or rtsp://...; try auto, none, test, default", where="--audio"
        )
    path, loop = _split_loop(text)
    if loop or os.path.exists(path) or "/" in path or ("." in path and ":" not in path):
        return AudioSpec("file", path, loop)
    return AudioSpec("device", text)


def parse_control(text: str) -> tuple[str, str]:
    """Parse ``brightness=10`` as the name of a camera's control and its value.

    Raises:
        ConfigError: ``text`` is not a pair.
    """
    name, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not re.fullmatch(r"[a-z0-9_]{1,64}", name) or not value:
        raise ConfigError(f"{text!r} is no control with a value; try brightness=10", where="--camera-control")
    return name, value


def parse_size(text: str) -> tuple[int, int]:
    """Parse ``1280x720`` as (width, height), both even.

    Raises:
        ConfigError: ``text`` is not a size, or one that no video codec accepts.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a size; try 1280x720", where="--size")
    width, height = int(match[1]), int(match[2])
    if width % 2 or height % 2:
        raise ConfigError(
            f"{text!r} has an odd width or height; try {width // 2 * 2}x{height // 2 * 2}", where="--size"
        )
    if not all(_SIDE_RANGE[0] <= side <= _SIDE_RANGE[1] for side in (width, height)):
        raise ConfigError(
            f"{text!r} has a side outside {_SIDE_RANGE[0]} to {_SIDE_RANGE[1]} pixels; try 1280x720",
            where="--size",
        )
    return width, height


def parse_bitrate(text: str) -> int:
    """Parse ``2500k``, ``2.5M`` or ``2500000`` as bit/s.

    Raises:
        ConfigError: ``text`` is not a bitrate, or not one for video.
    """
    match = _BITRATE.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is not a bitrate; try 2500k or 2.5M", where="--max-bitrate")
    bitrate = float(match[1]) * {"": 1, "k": 1_000, "m": 1_000_000}[match[2].lower()]
    if not _BITRATE_RANGE[0] <= bitrate <= _BITRATE_RANGE[1]:  # false for inf too
        raise ConfigError(
            f"{text!r} is {bitrate:g} bit/s, not between 30k and 100M; try 2500k", where="--max-bitrate"
        )
    return round(bitrate)


def parse_duration(text: str) -> float:
    """Parse ``10s``, ``500ms``, ``2m``, ``1h`` or plain seconds, as seconds above zero.

    Raises:
        ConfigError: ``text`` is not a duration.
    """
    seconds = parse_seconds(text)
    if seconds is None or seconds <= 0 or not math.isfinite(seconds):
        raise ConfigError(f"{text!r} is not a duration; try 10s, 500ms, 2m or 1h")
    return seconds


def parse_seconds(text: str) -> float | None:
    """Parse a time like ``parse_duration``, zero included; ``None`` if ``text`` is not a time."""
    match = _DURATION.fullmatch(text.strip())
    return float(match[1]) * _SECONDS[match[2]] if match is not None else None


def _split_loop(text: str) -> tuple[str, bool]:
    """Split off ``?loop``, unless an existing file has that name."""
    if text.endswith(_LOOP) and len(text) > len(_LOOP) and not os.path.exists(text):
        return text.removesuffix(_LOOP), True
    return text, False


def _command(text: str, where: str) -> str:
    command = text.removeprefix(_EXEC)
    try:
        words = shlex.split(command)
    except ValueError as problem:
        raise ConfigError(f"the command cannot be read: {problem}; check its quotes", where=where) from None
    if not words or not words[0]:
        raise ConfigError("exec: names no program; try exec:rpicam-vid -t 0 --inline --codec h264 -o -", where=where)
    return command


def _is_url(text: str) -> bool:
    return "://" in text


def _url(text: str, where: str) -> str:
    if not re.match(r"rtsps?://[^/\s]+", text):
        raise ConfigError(f"{redacted(text)!r} is not a supported address; try rtsp://host/path", where=where)
    return text
