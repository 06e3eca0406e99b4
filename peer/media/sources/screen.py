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
from peer.media.sources.constraints import Constraints
from peer.media.sources.decoding import decode
from peer.media.sources.handoff import Media

_DEFAULT_FPS: Final = 30.0


def display(target: str, environ: Mapping[str, str] = os.environ) -> str:
    """Return the X display to capture: ``target`` (such as ``:1``), else ``DISPLAY``.

    Raises:
        MediaError: neither is set.
    """
    name = target or environ.get("DISPLAY", "")
    if not name:
        raise MediaError("screen", "there is no X display: DISPLAY is not set", "start it from a desktop session")
    return name


def read(target: str, constraints: Constraints, stop: threading.Event) -> Generator[Media, None, None]:
    """Yield video of the whole screen until the display closes or ``stop`` is set.

    Raises:
        MediaError, av.error.FFmpegError: the display does not exist, or denies access.
    """
    name = display(target)
    options = {"framerate": f"{constraints.fps or _DEFAULT_FPS:g}", "probesize": "32"}
    try:
        container = av.open(name, format="x11grab", options=options)
    except av.error.FFmpegError as problem:
        raise MediaError(f"screen {name}", "the X display cannot be opened", "is DISPLAY right?") from problem
    with container:
        for frame in decode(container, [container.streams.video[0]], stop):
            if isinstance(frame, av.VideoFrame):
                yield picture.normalize(frame, from_wall(frame.time), constraints.size)
