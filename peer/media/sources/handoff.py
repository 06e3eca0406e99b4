"""The way of captured frames from a thread into the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import av

from peer.media.frames import EncodedFrame
from peer.media.sources.passthrough import Facts

Media = av.VideoFrame | av.AudioFrame

Captured = Media | EncodedFrame | Facts
"""What comes of an input. ``Facts`` come before the encoded frames that they are about."""

_PICTURES, _SOUNDS = 2, 50
"""Frames that wait for a busy event loop, the newest: 2 pictures, 1 s of sound."""

_PACKETS = 60
"""Encoded frames that wait: 2 s. With one of them missing the others are worth nothing, up to the next key frame."""


def enter(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> bool:
    """``call_soon_threadsafe`` that survives a loop that was closed first; False then."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


class Mailbox:
    """The way of one thread's frames into the event loop. Bounded; the newest win."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Captured], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._packets: deque[EncodedFrame | Facts] = deque()
        self._whole = True
        """Whether no encoded frame is missing since the last key frame."""
        self._pictures: deque[av.VideoFrame] = deque(maxlen=_PICTURES)
        self._sounds: deque[av.AudioFrame] = deque(maxlen=_SOUNDS)
        self._due = False
        self.dropped = 0

    def post(self, frame: Captured) -> bool:
        """From the thread. False when the loop is closed and nobody will read any more."""
        match frame:
            case av.VideoFrame():
                self.dropped += len(self._pictures) == _PICTURES
                self._pictures.append(frame)
            case av.AudioFrame():
                self.dropped += len(self._sounds) == _SOUNDS
                self._sounds.append(frame)
            case Facts():
                self._packets.append(frame)
            case EncodedFrame():
                self._post_encoded(frame)
        if self._due:
            return not self._loop.is_closed()  # a loop that closed in between never drains
        self._due = True
        return enter(self._loop, self._drain)

    def _post_encoded(self, frame: EncodedFrame) -> None:
        self._whole = self._whole or frame.key
        if self._whole and len(self._packets) < _PACKETS:
            self._packets.append(frame)
            return
        self._whole = False
        self.dropped += 1

    def _drain(self) -> None:
        self._due = False  # before reading: what is posted from here on makes a new call
        while self._packets:
            self._deliver(self._packets.popleft())
        while self._sounds:
            self._deliver(self._sounds.popleft())
        while self._pictures:
            self._deliver(self._pictures.popleft())
