"""A V4L2 camera as a source: capture format chosen by the constraints, frames stamped with the driver's clock."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Generator
from typing import Final

import av
from av.container import InputContainer

from peer.errors import MediaError
from peer.media import picture
from peer.media.failure import media_error
from peer.media.frame_rate_limiter import FrameRateLimiter
from peer.media.sources import v4l2
from peer.media.sources.camera_locator import CameraLocator
from peer.media.sources.capture_time import from_monotonic
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import DecodeFlags, OnDemandVideoDecoder, demux
from peer.media.sources.encoded import PacketConverter, stream_info
from peer.media.sources.handoff import Captured
from peer.media.sources.passthrough import StreamInfo

STALL: Final = 4.0
"""Time without a frame after which a camera counts as lost, in seconds. A long exposure at night takes 1 s."""


def read(
    path: str, constraints: Constraints, flags: DecodeFlags, stop: threading.Event
) -> Generator[Captured, None, None]:
    """Yield the camera's video until it is unplugged or ``stop`` is set. ``flags`` decide whether it is decoded.

    Raises:
        MediaError: the device is no camera, or has no H.264 although the constraints require it.
        OSError, av.error.FFmpegError: the device is missing, busy, forbidden or gone.
    """
    capabilities = v4l2.query(path)
    if not capabilities.captures:
        raise MediaError(path, "it is not a capture device", "`peer devices` lists cameras")
    chosen = v4l2.choose(capabilities.modes, constraints)
    if constraints.h264 and (chosen is None or chosen.format != "h264"):
        raise MediaError(path, "it offers no H.264", f"`peer devices` lists its formats; try {path} alone")
    constraints.controls.apply(path)
    with av.open(path, format="v4l2", options=options(chosen)) as container:
        try:
            yield from _frames(container, constraints, stop, flags)
        except av.error.ArgumentError:  # EINVAL from VIDIOC_DQBUF: the driver has stopped streaming
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def read_located(
    locator: CameraLocator, constraints: Constraints, flags: DecodeFlags, stop: threading.Event
) -> Generator[Captured, None, None]:
    """As ``read``, of the first of the locator's cameras that can be opened.

    Raises:
        MediaError: there is no such camera, or none can be opened.
    """
    problems: list[MediaError] = []
    for path in locator.candidates():
        locator.opening(path)
        delivered = False
        try:
            with contextlib.closing(read(path, constraints, flags, stop)) as frames:
                for frame in frames:
                    if not delivered and not isinstance(frame, StreamInfo):
                        delivered = True
                        locator.delivers(path)
                    yield frame
            return
        except (MediaError, OSError, av.error.FFmpegError) as problem:
            problems.append(media_error(path, problem))
            if delivered:
                break
    raise problems[0] if len(problems) == 1 else _none_works(problems)


def _none_works(problems: list[MediaError]) -> MediaError:
    why = "; ".join(f"{problem.what}: {problem.why}" for problem in problems)
    return MediaError("camera", f"none works ({why})", "`peer devices` lists cameras", cause=problems[0].cause)


def _frames(
    container: InputContainer, constraints: Constraints, stop: threading.Event, flags: DecodeFlags
) -> Generator[Captured, None, None]:
    stream = container.streams.video[0]
    converter, decoder = PacketConverter(stream), OnDemandVideoDecoder(flags)
    limiter = FrameRateLimiter(constraints.fps)
    yield stream_info(stream)
    for packet in demux(container, [stream], stop):
        # H.264 may come without a timestamp; ``from_monotonic`` then returns the time now.
        timestamp = float(packet.pts * packet.time_base) if packet.pts is not None else None
        encoded = converter.convert(packet, from_monotonic(timestamp))
        if encoded is not None:
            yield encoded
        for frame in decoder.decode(packet) or []:
            capture_time = from_monotonic(frame.time)
            if isinstance(frame, av.VideoFrame) and limiter.accepts(capture_time):
                yield picture.normalize(frame, capture_time, constraints.size)


def options(chosen: v4l2.CaptureFormat | None) -> dict[str, str]:
    """FFmpeg's options for ``chosen``. Without one, the camera keeps the format it was last set to."""
    if chosen is None:
        return {}
    result = {"input_format": chosen.format, "video_size": f"{chosen.width}x{chosen.height}"}
    if chosen.fps is not None:
        result["framerate"] = f"{chosen.fps:g}"
    return result
