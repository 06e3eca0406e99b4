"""A camera by V4L2: the format that suits best, stamped by the driver's own clock."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Generator
from typing import Final

import av

from peer.errors import MediaError
from peer.media import picture, v4l2
from peer.media.decoding import decode
from peer.media.mailbox import Media
from peer.media.moments import from_monotonic
from peer.media.wish import Thinner, Wish

STALL: Final = 4.0
"""Seconds without a picture after which a camera is lost; a long exposure at night takes one."""


def read(path: str, wish: Wish, stop: threading.Event) -> Generator[Media, None, None]:
    """The camera's pictures, until it is unplugged, or ``stop``.

    Raises:
        MediaError: it is no camera.
        OSError, av.error.FFmpegError: it is missing, busy, not ours to open, or gone.
    """
    abilities = v4l2.query(path)
    if not abilities.captures:
        raise MediaError(path, "it is not a capture device", "`peer devices` lists cameras")
    with av.open(path, format="v4l2", options=options(v4l2.choose(abilities.modes, wish))) as container:
        thinner = Thinner(wish.fps)
        try:
            for frame in decode(container, [container.streams.video[0]], stop):
                if isinstance(frame, av.VideoFrame):
                    moment = from_monotonic(frame.time)
                    if thinner.takes(moment):
                        yield picture.shape(frame, moment, wish.size)
        except av.error.ArgumentError:  # VIDIOC_DQBUF's EINVAL: the driver has ended the streaming
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV)) from None


def options(choice: v4l2.Choice | None) -> dict[str, str]:
    """FFmpeg's options for ``choice``; without one the camera comes up the way it was left."""
    if choice is None:
        return {}
    wanted = {"input_format": choice.format, "video_size": f"{choice.width}x{choice.height}"}
    if choice.fps is not None:
        wanted["framerate"] = f"{choice.fps:g}"
    return wanted
