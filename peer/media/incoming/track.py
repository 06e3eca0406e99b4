"""What one remote peer sends us: encoded packets in, encoded and decoded fan-outs out.

Decoding costs; receiving does not. A picture nobody reads is not decoded: the first reader of ``frames`` starts
the decoder at the next key frame (which it asks for), the last one stops it. The very first picture is always
decoded, so that ``first-frame`` means a picture that can be seen.

It outlives a connection: a call whose connection is replaced keeps its readers. ``reception`` feeds it, in
the event loop.

Must never: import the engine, block, or hold more than its readers' queues and the decoder's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

import av

from ..fanout import Fanout
from ..frames import EncodedFrame
from .decoder import Decoder
from .freezes import Freezes

KEY_FRAME_INTERVAL: Final = 0.3
"""Seconds between two key-frame requests of ours: a lost one freezes the picture for as long. RFC 4585 3.4 asks for
restraint; senders merge them anyway."""


@dataclass(frozen=True, slots=True)
class FirstPicture:
    """Size in pixels and FFmpeg's codec name of the first picture that was decoded."""

    width: int
    height: int
    codec: str


@dataclass(slots=True)
class Counters:
    """Since the call began; of pictures, or of packets of sound."""

    frames: int = 0
    octets: int = 0
    decoded: int = 0
    decode_seconds: float = 0.0
    """Time spent decoding, of those that were."""
    torn: int = 0
    """Pictures of which packets were lost for good, of several in a row one; packets of sound that did not come."""
    overrun: int = 0
    """Frames that a decoder too slow, or one that failed, did not decode."""
    skipped: int = 0
    """Pictures that came while a key frame was being waited for."""
    jitter: float = 0.0
    """Interarrival jitter in seconds (RFC 3550 6.4.1), now."""


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
        self.frames: Fanout[Any] = Fanout(self._begin, self._rest)
        self.counters = Counters()
        self.freezes = Freezes()
        self.codec: str | None = None
        self.size: tuple[int, int] | None = None
        self._on_first_picture = on_first_picture
        self._first = on_first_picture is not None  # still to be decoded
        self._needs_key = kind == "video"
        self._asked = float("-inf")
        self._ask: Callable[[], None] | None = None
        self._decoder = Decoder(kind, self._decoded, self._failed)

    def attach(self, ask_key_frame: Callable[[], None]) -> None:
        """A (new) connection feeds us from now on; its decoder starts empty."""
        self._ask = ask_key_frame
        self._rest()

    def detach(self, ask_key_frame: Callable[[], None]) -> None:
        """The connection that attached with this has ended. Does nothing if another one has attached since."""
        if self._ask == ask_key_frame:
            self._ask = None
            self._rest()

    @property
    def wanted(self) -> bool:
        """Whether anybody would miss a frame that is lost."""
        return bool(self._first or self.frames.readers or (self._encoded is not None and self._encoded.readers))

    def request_key_frame(self) -> bool:
        """Ask the sender for a key frame, at most every ``KEY_FRAME_INTERVAL``. False: not now, so try again."""
        now = time.monotonic()
        if self._ask is None or now - self._asked < KEY_FRAME_INTERVAL:
            return False
        self._asked = now
        self._ask()
        return True

    def pass_by(self, codec: str, octets: int, *, new: bool) -> None:
        """Part of a frame came that nobody wants; ``new``: the first of it."""
        self.codec = codec
        self.counters.frames += new
        self.counters.octets += octets

    def feed(self, frame: EncodedFrame) -> None:
        """One encoded frame arrived whole."""
        self.codec = frame.codec
        self.counters.frames += 1
        self.counters.octets += len(frame.data)
        if self._encoded is not None:
            self._encoded.put(frame)
        if not self.frames.readers and not self._first:
            return  # a recording takes it as it is
        if self.kind == "video" and (frame.gap or self._needs_key):
            self._needs_key = not frame.key
            if self._needs_key:
                self.counters.skipped += 1
                self.request_key_frame()
                return
        if not self._decoder.decode(frame):
            self._failed()

    def lost(self, count: int, *, key_is_here: bool = False) -> None:
        """So many did not come whole; no picture can be decoded before the next key frame, unless that
        ``key_is_here``, to be fed next."""
        self.counters.torn += count
        if not key_is_here:
            self._restart()

    def close(self) -> None:
        """The call is over."""
        self._ask, self._first = None, False
        self.frames.close()
        self._rest()

    def _failed(self) -> None:
        """A frame was not decoded."""
        self.counters.overrun += 1
        self._restart()

    def _restart(self) -> None:
        """Go on at a key frame, which a recording needs as well."""
        if self.kind == "video":
            self._needs_key = True
            self.request_key_frame()

    def _begin(self) -> None:
        """Somebody looks, and need not wait for a picture that cannot be decoded to ask for one that can."""
        if self._needs_key and self.codec is not None:
            self.request_key_frame()

    def _rest(self) -> None:
        """Nobody reads: whoever does next begins at a key frame."""
        self._decoder.stop()
        self._needs_key = self.kind == "video"
        self.freezes.pause()

    def _decoded(self, frame: av.VideoFrame | av.AudioFrame, seconds: float) -> None:
        self.counters.decoded += 1
        self.counters.decode_seconds += seconds
        if isinstance(frame, av.VideoFrame):
            self.size = (frame.width, frame.height)
            self.freezes.picture(time.monotonic())
            if self._first:
                self._first = False
                if self._on_first_picture is not None:
                    self._on_first_picture(FirstPicture(frame.width, frame.height, self.codec or ""))
        self.frames.put(frame)
        if not self.frames.readers:
            self._rest()  # it was the first picture


class IncomingMedia:
    """Sound and picture of one remote. ``encoded`` yields the packets of both, as they came."""

    def __init__(self, on_first_picture: Callable[[FirstPicture], None]) -> None:
        self.encoded: Fanout[EncodedFrame] = Fanout()
        self.video = IncomingTrack("video", self.encoded, on_first_picture)
        self.audio = IncomingTrack("audio", self.encoded)

    def lost(self) -> int:
        """Pictures and packets of sound that did not come whole, since the call began."""
        return self.video.counters.torn + self.audio.counters.torn

    def track(self, kind: str) -> IncomingTrack:
        return self.video if kind == "video" else self.audio

    def close(self) -> None:
        """The call is over: all readers end."""
        self.encoded.close()
        self.video.close()
        self.audio.close()
