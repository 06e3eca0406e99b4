"""The screen of an X display as a source."""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Mapping
from typing import Final

import av

from peer.errors import MediaError
from peer.media import picture
from peer.media.sources.capture_time import from_wall
from peer.media.sources.constraints import Wish
from peer.media.sources.decoding import decode
from peer.media.sources.handoff import Media

_FPS: Final = 30.0


def display(target: str, environ: Mapping[str, str] = os.environ) -> str:
    """The X display to grab: ``target`` (``:1``), or that of the environment.

    Raises:
        MediaError: there is none.
    """
    name = target or environ.get("DISPLAY", "")
    if not name:
        raise MediaError("screen", "there is no X display: DISPLAY is not set", "start it from a desktop session")
    return name


def read(target: str, wish: Wish, stop: threading.Event) -> Generator[Media, None, None]:
    """Pictures of the whole screen, until the display goes, or ``stop``.

    Raises:
        MediaError, av.error.FFmpegError: there is no such display, or it refuses us.
    """
    name = display(target)
    options = {"framerate": f"{wish.fps or _FPS:g}", "probesize": "32"}
    try:
        container = av.open(name, format="x11grab", options=options)
    except av.error.FFmpegError as problem:
        raise MediaError(f"screen {name}", "the X display cannot be opened", "is DISPLAY right?") from problem
    with container:
        for frame in decode(container, [container.streams.video[0]], stop):
            if isinstance(frame, av.VideoFrame):
                yield picture.shape(frame, from_wall(frame.time), wish.size)
