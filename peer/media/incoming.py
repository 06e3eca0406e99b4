"""What one remote peer sends us: encoded packets in, encoded and decoded fan-outs out.

Decoding costs; receiving does not. A picture nobody reads is not decoded: the first reader of ``frames`` starts
the decoder at the next key frame (which it asks for), the last one stops it. The very first picture is always
decoded, so that ``first-frame`` means a picture that can be seen.

It outlives a connection: a call whose connection is replaced keeps its readers. ``peer.engine`` feeds it, in the
event loop.

Must never: import the engine, block, or hold more than its readers' queues.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import av

from .fanout import Fanout
from .frames import EncodedFrame

KEY_FRAME_INTERVAL: Final = 0.5
"""Seconds between two key-frame requests of ours (RFC 4585 asks for restraint; the sender merges anyway)."""

Frame = TypeVar("Frame", av.VideoFrame, av.AudioFrame)


@dataclass(frozen=True, slots=True)
class FirstPicture:
    """Size in pixels and FFmpeg's codec name of the first picture that was decoded."""

    width: int
    height: int
    codec: str


@dataclass(slots=True)
class Counters:
    """Since the call began. ``lost`` counts packets, as RTCP does (RFC 3550 6.4.1)."""

    frames: int = 0
    octets: int = 0
    decoded: int = 0
    skipped: int = 0
    """Frames that came while a key frame was being waited for."""


class IncomingTrack:
    """One kind of media of one remote. ``frames`` yields decoded PyAV frames; what is encoded goes to ``encoded``."""

    def __init__(
        self,
        kind: Literal["video", "audio"],
        encoded: Fanout[EncodedFrame] | None = None,
        on_first_picture: Callable[[FirstPicture], None] | None = None,
    ) -> None:
        self.kind: Literal["video", "audio"] = kind
        self._encoded = encoded
        self.frames: Fanout[Any] = Fanout()
        self.counters = Counters()
        self.codec: str | None = None
        self.size: tuple[int, int] | None = None
        self._on_first_picture = on_first_picture
        self._first = on_first_picture is not None  # still to be decoded
        self._needs_key = kind == "video"
        self._asked = float("-inf")
        self._decode: Callable[[EncodedFrame], None] | None = None
        self._ask: Callable[[], None] | None = None

    def attach(self, decode: Callable[[EncodedFrame], None], ask_key_frame: Callable[[], None]) -> None:
        """A (new) connection feeds us from now on; its decoder starts empty."""
        self._decode, self._ask = decode, ask_key_frame
        self._needs_key = self.kind == "video"

    def request_key_frame(self) -> None:
        """Ask the sender for a key frame, at most every ``KEY_FRAME_INTERVAL``."""
        now = time.monotonic()
        if self._ask is not None and now - self._asked >= KEY_FRAME_INTERVAL:
            self._asked = now
            self._ask()

    def feed(self, frame: EncodedFrame) -> None:
        """One encoded frame arrived whole."""
        self.codec = frame.codec
        self.counters.frames += 1
        self.counters.octets += len(frame.data)
        if self._encoded is not None:
            self._encoded.put(frame)
        if not self.frames.readers and not self._first:
            self._needs_key = self.kind == "video"
            return
        if self._needs_key:
            if not frame.key:
                self.counters.skipped += 1
                self.request_key_frame()
                return
            self._needs_key = False
        if self._decode is not None:
            self._decode(frame)

    def decoder_restarts(self) -> None:
        """The decoder lost frames: go on at a key frame."""
        self._needs_key = self.kind == "video"
        self.request_key_frame()

    def feed_decoded(self, frame: av.VideoFrame | av.AudioFrame) -> None:
        """The decoder made a frame of it."""
        self.counters.decoded += 1
        if isinstance(frame, av.VideoFrame):
            self.size = (frame.width, frame.height)
            if self._first:
                self._first = False
                if self._on_first_picture is not None:
                    self._on_first_picture(FirstPicture(frame.width, frame.height, self.codec or ""))
        self.frames.put(frame)


class IncomingMedia:
    """Sound and picture of one remote. ``encoded`` yields the packets of both, as they came."""

    def __init__(self, on_first_picture: Callable[[FirstPicture], None]) -> None:
        self.encoded: Fanout[EncodedFrame] = Fanout()
        self.video = IncomingTrack("video", self.encoded, on_first_picture)
        self.audio = IncomingTrack("audio", self.encoded)

    def track(self, kind: str) -> IncomingTrack:
        return self.video if kind == "video" else self.audio

    def close(self) -> None:
        """The call is over: all readers end."""
        for fanout in (self.encoded, self.video.frames, self.audio.frames):
            fanout.close()
