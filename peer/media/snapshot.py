"""One decoded picture into a PNG or JPEG file."""

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
"""FFmpeg's encoder and the pixel format it takes, by suffix."""


def check_path(path: Path) -> None:
    """Refuse what cannot become a picture, before anything is waited for.

    Raises:
        MediaError: the suffix is none of .png, .jpg, .jpeg.
    """
    if path.suffix.lower() not in _ENCODERS:
        has = path.suffix or "nothing"
        raise MediaError(str(path), f"no picture ends in {has}", f"there are {', '.join(_ENCODERS)}")


async def snapshot(path: Path, video: Fanout[av.VideoFrame], timeout: float) -> None:
    """Write the next picture of ``video`` to ``path``, within ``timeout`` seconds.

    The file is whole or not there, and replaces one of its name; missing folders are made.

    Raises:
        MediaError: an unknown suffix, no picture in time, a place that cannot be written, a disk that hangs.
    """
    check_path(path)
    with video.read(1) as reader:
        try:
            async with asyncio.timeout(timeout):
                frame = await reader.get()
        except TimeoutError:
            raise MediaError(str(path), f"no picture came within {timeout:g} s") from None
        except StopAsyncIteration:
            raise MediaError(str(path), "the call ended before a picture came") from None
    await in_thread(str(path), lambda: _write(path, frame))


def _write(path: Path, frame: av.VideoFrame) -> None:
    data = _encode(frame, *_ENCODERS[path.suffix.lower()])
    try:
        _put(path, data)
    except OSError as exc:  # in the words of the disk: the hints for devices do not fit
        raise MediaError(str(path), exc.strerror or str(exc)) from None


def _put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
    try:
        whole.write_bytes(data)
        whole.replace(path)
    except OSError:
        whole.unlink(missing_ok=True)
        raise


def _encode(frame: av.VideoFrame, codec: str, pixels: str) -> bytes:
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    picture = frame.reformat(format=pixels)
    picture.pts = 0
    encoder.width, encoder.height, encoder.pix_fmt = picture.width, picture.height, pixels
    encoder.time_base = encoder.framerate = Fraction(1)  # a picture has no rate; the encoders insist on one
    if codec == "mjpeg":
        encoder.options = {"qmin": "2", "qmax": "3"}  # of 1 to 31: close to what was seen
    return b"".join(bytes(packet) for packet in [*encoder.encode(picture), *encoder.encode(None)])
