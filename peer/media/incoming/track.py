"""The media received from one remote: encoded frames in, fan-outs of encoded and decoded frames out.

Video without readers is not decoded, because decoding is costly and receiving is not. The first reader of ``frames``
starts the decoder at the next key frame, which it requests; the last reader stops it. The very first video frame is
always decoded, so that ``first-frame`` means a frame that can be shown.

A track outlives its connection: when a call's connection is replaced, its readers stay. ``peer.rtc.receiver`` calls
``put`` in the event loop.

Must never: import aiortc, block, or hold more frames than the queues of its readers and its decoder.
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
from .freezes import FreezeDetector

KEY_FRAME_REQUEST_INTERVAL: Final = 0.3
"""Minimum time between two key frame requests, in seconds. If a request is lost, video freezes for that long. RFC
4585 section 3.4 asks for restraint, and senders merge requests anyway."""

MAX_QUEUED_BYTES: Final = 16 << 20
"""Maximum size of the encoded frames that wait for one reader, in bytes: five seconds at 25 Mbit/s. A remote chooses
the size of its frames, up to 8 MiB."""


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """Size in pixels and codec (FFmpeg's name) of the first decoded video frame."""

    width: int
    height: int
    codec: str


@dataclass(slots=True)
class IncomingCounters:
    """Counters since the call began, of video frames or audio packets."""

    frames: int = 0
    """Frames received."""
    byte_count: int = 0
    """Bytes of payload received."""
    decoded: int = 0
    """Frames decoded."""
    decode_seconds: float = 0.0
    """Total decoding time of the ``decoded`` frames."""
    lost: int = 0
    """Video frames that stayed incomplete, where consecutive ones count once; audio packets that never arrived."""
    decoder_dropped: int = 0
    """Frames not decoded because the decoder was too slow or failed."""
    skipped: int = 0
    """Video frames not decoded because a key frame had to come first."""
    jitter: float = 0.0
    """Current interarrival jitter, in seconds (RFC 3550 section 6.4.1)."""


class IncomingTrack:
    """One kind of media from one remote. ``encoded`` receives every encoded frame; ``frames`` delivers decoded
    ones."""

    def __init__(
        self,
        kind: Literal["video", "audio"],
        encoded: Fanout[EncodedFrame] | None = None,
        on_first_frame: Callable[[FirstFrame], None] | None = None,
    ) -> None:
        self.kind: Literal["video", "audio"] = kind
        self._encoded = encoded
        self.frames: Fanout[Any] = Fanout(self._on_first_reader, self._stop_decoding)
        self.counters = IncomingCounters()
        self.freezes = FreezeDetector()
        self.codec: str | None = None
        self.size: tuple[int, int] | None = None
        self._on_first_frame = on_first_frame
        self._first_frame_pending = on_first_frame is not None
        self._needs_key = kind == "video"
        self._requested_at = float("-inf")
        self._send_request: Callable[[], None] | None = None
        self._decoder = Decoder(kind, self._on_decoded, self._on_not_decoded)

    def attach(self, send_key_frame_request: Callable[[], None]) -> None:
        """Use the key frame requests of a new connection. The decoder starts again, at a key frame."""
        self._send_request = send_key_frame_request
        self._stop_decoding()

    def detach(self, send_key_frame_request: Callable[[], None]) -> None:
        """End the connection that attached with this argument. Does nothing if another one has attached since."""
        if self._send_request == send_key_frame_request:
            self._send_request = None
            self._stop_decoding()

    @property
    def needed(self) -> bool:
        """Whether frames have to be complete: the track has a reader, or the first frame is still to be decoded."""
        has_encoded_readers = self._encoded is not None and self._encoded.readers > 0
        return self._first_frame_pending or self.frames.readers > 0 or has_encoded_readers

    def request_key_frame(self) -> bool:
        """Send a key frame request, unless the last one was less than ``KEY_FRAME_REQUEST_INTERVAL`` ago.

        Return whether it was sent; otherwise the caller has to try again.
        """
        now = time.monotonic()
        if self._send_request is None or now - self._requested_at < KEY_FRAME_REQUEST_INTERVAL:
            return False
        self._requested_at = now
        self._send_request()
        return True

    def count_unneeded(self, codec: str, byte_count: int, *, new_frame: bool) -> None:
        """Count a packet received while the track is not ``needed``. ``new_frame``: it is the first of its frame."""
        self.codec = codec
        self.counters.frames += new_frame
        self.counters.byte_count += byte_count

    def put(self, frame: EncodedFrame) -> None:
        """Deliver a complete encoded frame."""
        self.codec = frame.codec
        self.counters.frames += 1
        self.counters.byte_count += len(frame.data)
        if self._encoded is not None:
            self._encoded.put(frame)
        if not self.frames.readers and not self._first_frame_pending:
            return  # only a recording reads it, and that takes it encoded
        if self.kind == "video" and (frame.gap or self._needs_key):
            self._needs_key = not frame.key
            if self._needs_key:
                self.counters.skipped += 1
                self.request_key_frame()
                return
        if not self._decoder.decode(frame):
            self._on_not_decoded()

    def report_loss(self, count: int, *, key_frame_follows: bool = False) -> None:
        """Count lost frames. Video then continues at a key frame, which is requested unless it is put next."""
        self.counters.lost += count
        if not key_frame_follows:
            self._continue_at_key_frame()

    def close(self) -> None:
        """End all readers of ``frames``: the call is over."""
        self._send_request, self._first_frame_pending = None, False
        self.frames.close()
        self._stop_decoding()

    def _on_not_decoded(self) -> None:
        self.counters.decoder_dropped += 1
        self._continue_at_key_frame()

    def _continue_at_key_frame(self) -> None:
        if self.kind == "video":
            self._needs_key = True
            self.request_key_frame()

    def _on_first_reader(self) -> None:
        """Request a key frame at once, instead of after the first frame that cannot be decoded without one."""
        if self._needs_key and self.codec is not None:
            self.request_key_frame()

    def _stop_decoding(self) -> None:
        """Stop the decoder. The next reader starts at a key frame."""
        self._decoder.stop()
        self._needs_key = self.kind == "video"
        self.freezes.pause()

    def _on_decoded(self, frame: av.VideoFrame | av.AudioFrame, seconds: float) -> None:
        self.counters.decoded += 1
        self.counters.decode_seconds += seconds
        if isinstance(frame, av.VideoFrame):
            self.size = (frame.width, frame.height)
            self.freezes.add_frame(time.monotonic())
            if self._first_frame_pending:
                self._first_frame_pending = False
                if self._on_first_frame is not None:
                    self._on_first_frame(FirstFrame(frame.width, frame.height, self.codec or ""))
        self.frames.put(frame)
        if not self.frames.readers:
            self._stop_decoding()  # this was the first frame, which is decoded without a reader


class IncomingMedia:
    """Audio and video from one remote. ``encoded`` delivers the encoded frames of both, in order of arrival."""

    def __init__(self, on_first_frame: Callable[[FirstFrame], None]) -> None:
        self.encoded: Fanout[EncodedFrame] = Fanout(size_of=lambda frame: len(frame.data), max_bytes=MAX_QUEUED_BYTES)
        self.video = IncomingTrack("video", self.encoded, on_first_frame)
        self.audio = IncomingTrack("audio", self.encoded)

    def lost_frames(self) -> int:
        """Return the number of video frames and audio packets lost since the call began."""
        return self.video.counters.lost + self.audio.counters.lost

    def track(self, kind: str) -> IncomingTrack:
        return self.video if kind == "video" else self.audio

    def close(self) -> None:
        """End all readers: the call is over."""
        self.encoded.close()
        self.video.close()
        self.audio.close()
