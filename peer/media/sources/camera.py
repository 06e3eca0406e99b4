"""A camera by V4L2: the format that suits best, stamped by the driver's own clock."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Generator
from typing import Final

import av
from av.container import InputContainer

from peer.errors import MediaError
from peer.media import picture
from peer.media.sources import v4l2
from peer.media.sources.capture_time import from_monotonic
from peer.media.sources.constraints import Thinner, Wish
from peer.media.sources.decoding import PicturesOnDemand, demux
from peer.media.sources.demand import Demand
from peer.media.sources.encoded import Packets, facts
from peer.media.sources.handoff import Captured

STALL: Final = 4.0
"""Seconds without a picture after which a camera is lost; a long exposure at night takes one."""


def read(path: str, wish: Wish, demand: Demand, stop: threading.Event) -> Generator[Captured, None, None]:
    """The camera's pictures, until it is unplugged, or ``stop``; decoded as far as ``demand`` goes.

    Raises:
        MediaError: it is no camera, or has no H.264 where that is wanted.
        OSError, av.error.FFmpegError: it is missing, busy, not ours to open, or gone.
    """
    abilities = v4l2.query(path)
    if not abilities.captures:
        raise MediaError(path, "it is not a capture device", "`peer devices` lists cameras")
    choice = v4l2.choose(abilities.modes, wish)
    if wish.h264 and (choice is None or choice.format != "h264"):
        raise MediaError(path, "it offers no H.264", f"`peer devices` lists what it has; try {path} alone")
    with av.open(path, format="v4l2", options=options(choice)) as container:
        try:
            yield from _frames(container, wish, stop, demand)
        except av.error.ArgumentError:  # VIDIOC_DQBUF's EINVAL: the driver has ended the streaming
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def _frames(
    container: InputContainer, wish: Wish, stop: threading.Event, demand: Demand
) -> Generator[Captured, None, None]:
    stream = container.streams.video[0]
    packets, pictures, thinner = Packets(stream), PicturesOnDemand(demand), Thinner(wish.fps)
    yield facts(stream)
    for packet in demux(container, [stream], stop):
        # H.264 may come without a time, which ``from_monotonic`` makes now.
        stamp = float(packet.pts * packet.time_base) if packet.pts is not None else None
        encoded = packets.frame(packet, from_monotonic(stamp))
        if encoded is not None:
            yield encoded
        for frame in pictures.decode(packet) or []:
            moment = from_monotonic(frame.time)
            if isinstance(frame, av.VideoFrame) and thinner.takes(moment):
                yield picture.shape(frame, moment, wish.size)


def options(choice: v4l2.Choice | None) -> dict[str, str]:
    """FFmpeg's options for ``choice``; without one the camera comes up the way it was left."""
    if choice is None:
        return {}
    wanted = {"input_format": choice.format, "video_size": f"{choice.width}x{choice.height}"}
    if choice.fps is not None:
        wanted["framerate"] = f"{choice.fps:g}"
    return wanted
