"""The way of captured frames from a thread into the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import av

Media = av.VideoFrame | av.AudioFrame

_PICTURES, _SOUNDS = 2, 50
"""Frames that wait for a busy event loop, the newest: 2 pictures, 1 s of sound."""


def enter(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> bool:
    """``call_soon_threadsafe`` that survives a loop that was closed first; False then."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


class Mailbox:
    """The way of one thread's frames into the event loop. Bounded; the newest win."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Media], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._pictures: deque[av.VideoFrame] = deque(maxlen=_PICTURES)
        self._sounds: deque[av.AudioFrame] = deque(maxlen=_SOUNDS)
        self._due = False
        self.dropped = 0

    def post(self, frame: Media) -> bool:
        """From the thread. False when the loop is closed and nobody will read any more."""
        if isinstance(frame, av.VideoFrame):
            self.dropped += len(self._pictures) == _PICTURES
            self._pictures.append(frame)
        else:
            self.dropped += len(self._sounds) == _SOUNDS
            self._sounds.append(frame)
        if self._due:
            return not self._loop.is_closed()  # a loop that closed in between never drains
        self._due = True
        return enter(self._loop, self._drain)

    def _drain(self) -> None:
        self._due = False  # before reading: what is posted from here on makes a new call
        while self._sounds:
            self._deliver(self._sounds.popleft())
        while self._pictures:
            self._deliver(self._pictures.popleft())
