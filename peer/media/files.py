"""A file as a source: played in real time, picture and sound in step, once or for ever."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Generator, Iterator
from typing import Any, Final

import av

from peer.errors import MediaError
from peer.media import picture
from peer.media.decoding import decode
from peer.media.frames import media_time
from peer.media.mailbox import Media
from peer.media.slicer import Slicer
from peer.media.wish import Thinner, Wish

_AHEAD: Final = 64
"""Decoded frames of one kind that wait for the other kind, in a file that is badly interleaved."""

_LATE: Final = 0.1
"""Seconds after its moment at which a picture is no longer worth its conversion: this machine is too slow."""

_HOPELESS: Final = 1.0
"""Seconds behind at which the moments of all that follows are moved instead."""

_LAST_PICTURE: Final = 0.04
"""Seconds for which a picture without a duration of its own stands, at the end of a file."""


def check(path: str, wish: Wish) -> None:
    """Open the file and look for what is wanted of it.

    Raises:
        MediaError: it has no picture, or no sound.
        OSError, av.error.FFmpegError: it cannot be opened or read.
    """
    with av.open(path) as container:
        if wish.video and not container.streams.video:
            raise MediaError(path, "there is no picture in it", "name another file, or --video none")
        if wish.audio and not container.streams.audio:
            raise MediaError(path, "there is no sound in it", "name another file, or --audio none")


def play(path: str, wish: Wish, stop: threading.Event, *, loop: bool = False) -> Generator[Media, None, None]:
    """The frames of the file, each at its moment, until its end, or ``stop``."""
    slicer = Slicer()
    start: float | None = None
    while not stop.is_set():
        end = 0.0
        limit = Thinner(wish.fps)
        for time, frame in _in_order(path, wish, stop):
            if start is None:
                start = media_time()
            behind = media_time() - (start + time)
            if behind > _HOPELESS:
                start += behind
            elif stop.wait(max(0.0, -behind)):
                return
            moment = start + time
            if isinstance(frame, av.AudioFrame):
                end = max(end, time + frame.samples / frame.sample_rate)
                yield from slicer.cut(frame, moment)
            else:
                end = max(end, time + _LAST_PICTURE)
                if behind < _LATE and limit.takes(time):
                    yield picture.shape(frame, moment, wish.size)
        if not loop:
            return
        if start is None or end == 0.0:
            raise MediaError(path, "nothing in it can be played")
        start += end


def _in_order(path: str, wish: Wish, stop: threading.Event) -> Iterator[tuple[float, Media]]:
    """Decoded frames with their time in seconds from the first one, picture and sound merged by time."""
    with av.open(path) as container:
        streams: list[Any] = [*container.streams.video[:1]] if wish.video else []
        streams += [*container.streams.audio[:1]] if wish.audio else []
        waiting: dict[bool, deque[tuple[float, Media]]] = {stream.type == "video": deque() for stream in streams}
        origin: float | None = None
        for time, frame in _timed(decode(container, streams, stop)):
            waiting[isinstance(frame, av.VideoFrame)].append((time, frame))
            while all(waiting.values()) or any(len(queue) > _AHEAD for queue in waiting.values()):
                earliest = min((queue for queue in waiting.values() if queue), key=lambda queue: queue[0][0])
                time, frame = earliest.popleft()
                origin = time if origin is None else origin
                yield time - origin, frame
        for time, frame in sorted(itertools.chain(*waiting.values()), key=lambda item: item[0]):
            origin = time if origin is None else origin
            yield time - origin, frame


def _timed(frames: Iterator[Media]) -> Iterator[tuple[float, Media]]:
    """Each frame with its time in seconds; one without a time follows the one before of its kind."""
    following = {True: 0.0, False: 0.0}
    for frame in frames:
        picture = isinstance(frame, av.VideoFrame)
        time = frame.time if frame.time is not None else following[picture]
        following[picture] = time + (
            _LAST_PICTURE if isinstance(frame, av.VideoFrame) else frame.samples / frame.sample_rate
        )
        yield time, frame
