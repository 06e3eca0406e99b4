"""Snapshots: one decoded video frame as a PNG or JPEG file."""

from __future__ import annotations

import asyncio
import secrets
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.video.codeccontext import VideoCodecContext

from ..errors import MediaError
from .fanout import Fanout
from .threads import in_thread

_ENCODERS: Final = {".png": ("png", "rgb24"), ".jpg": ("mjpeg", "yuvj420p"), ".jpeg": ("mjpeg", "yuvj420p")}
"""FFmpeg's encoder and its pixel format, by file suffix."""


def check_path(path: Path) -> None:
    """Verify the file suffix, before a call is waited for.

    Raises:
        MediaError: the suffix is none of .png, .jpg, .jpeg.
    """
    if path.suffix.lower() not in _ENCODERS:
        raise MediaError(
            str(path), f"the suffix {path.suffix!r} is not supported", f"use one of {', '.join(_ENCODERS)}"
        )


async def snapshot(path: Path, video: Fanout[av.VideoFrame], timeout: float) -> None:
    """Write the next frame of ``video`` to ``path``, waiting at most ``timeout`` seconds for it.

    The file appears complete or not at all, and replaces an existing one. Missing folders are created.

    Raises:
        MediaError: the suffix is unknown, no frame came in time, the file cannot be written, or the disk hangs.
    """
    check_path(path)
    with video.read(1) as reader:
        try:
            async with asyncio.timeout(timeout):
                frame = await reader.get()
        except TimeoutError:
            raise MediaError(str(path), f"no video frame came within {timeout:g} s") from None
        except StopAsyncIteration:
            raise MediaError(str(path), "the call ended before a video frame came") from None
    await in_thread(str(path), lambda: _write(path, frame))


def _write(path: Path, frame: av.VideoFrame) -> None:
    data = _encode(frame, *_ENCODERS[path.suffix.lower()])
    try:
        _replace(path, data)
    except OSError as exc:  # the system's own text: the hints of ``media_error`` are for devices
        raise MediaError(str(path), exc.strerror or str(exc)) from None


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _encode(frame: av.VideoFrame, codec: str, pixels: str) -> bytes:
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    image = frame.reformat(format=pixels)
    image.pts = 0
    encoder.width, encoder.height, encoder.pix_fmt = image.width, image.height, pixels
    encoder.time_base = encoder.framerate = Fraction(1)  # meaningless for an image, but the encoders require it
    if codec == "mjpeg":
        encoder.options = {"qmin": "2", "qmax": "3"}  # of 1 (best) to 31: hardly visible loss
    return b"".join(bytes(packet) for packet in [*encoder.encode(image), *encoder.encode(None)])
