"""The handoff of captured frames from a thread to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

import av

from peer.media.frames import EncodedFrame
from peer.media.sources.passthrough import StreamInfo

Media = av.VideoFrame | av.AudioFrame

Captured = Media | EncodedFrame | StreamInfo
"""What an input yields. A ``StreamInfo`` precedes the encoded frames that it describes."""

_MAX_VIDEO, _MAX_AUDIO = 2, 50
"""Maximum decoded frames queued for a busy event loop: 2 video frames, 1 s of audio. The oldest are dropped."""

_MAX_ENCODED = 60
"""Maximum encoded frames queued: 2 s. After a drop, all further ones are useless until the next key frame."""


def call_in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: object) -> bool:
    """Call ``call_soon_threadsafe``, or return False if the loop is already closed."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


class Handoff:
    """Bounded queues from one capture thread to the event loop. Of the decoded frames, the newest are kept."""

    def __init__(self, loop: asyncio.AbstractEventLoop, deliver: Callable[[Captured], None]) -> None:
        self._loop = loop
        self._deliver = deliver
        self._encoded: deque[EncodedFrame | StreamInfo] = deque()
        self._intact = True
        """Whether no encoded frame was dropped since the last key frame."""
        self._video: deque[av.VideoFrame] = deque(maxlen=_MAX_VIDEO)
        self._audio: deque[av.AudioFrame] = deque(maxlen=_MAX_AUDIO)
        self._drain_scheduled = False
        self.dropped = 0

    def post(self, frame: Captured) -> bool:
        """Queue ``frame``. Called in the thread. Return False if the loop is closed, so nothing more is delivered."""
        match frame:
            case av.VideoFrame():
                self.dropped += len(self._video) == _MAX_VIDEO
                self._video.append(frame)
            case av.AudioFrame():
                self.dropped += len(self._audio) == _MAX_AUDIO
                self._audio.append(frame)
            case StreamInfo():
                self._encoded.append(frame)
            case EncodedFrame():
                self._post_encoded(frame)
        if self._drain_scheduled:
            return not self._loop.is_closed()  # a loop that closed in between never drains
        self._drain_scheduled = True
        return call_in_loop(self._loop, self._drain)

    def _post_encoded(self, frame: EncodedFrame) -> None:
        self._intact = self._intact or frame.key
        if self._intact and len(self._encoded) < _MAX_ENCODED:
            self._encoded.append(frame)
            return
        self._intact = False
        self.dropped += 1

    def _drain(self) -> None:
        self._drain_scheduled = False  # before reading: a frame posted from here on schedules another call
        while self._encoded:
            self._deliver(self._encoded.popleft())
        while self._audio:
            self._deliver(self._audio.popleft())
        while self._video:
            self._deliver(self._video.popleft())
