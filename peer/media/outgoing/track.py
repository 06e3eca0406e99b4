"""The outgoing video of one call, read from the encodings that all calls share.

    source --frames--> VideoEncoding, one per codec and rung --+--packets--> OutgoingVideo, one per call
           --H.264---> Passthrough, for viewers that can ------+

H.264 in packetization-mode 0 counts as a codec of its own here: its slices are smaller.

Encodings are created on demand (``shared.py``). ``OutgoingVideo`` and ``OutgoingAudio`` belong to one call. The
bandwidth of its viewer determines the rung that it reads.

Must never: let the reports or the slowness of one viewer affect another one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

from ...request_budget import RequestBudget
from ..fanout import Reader
from ..frames import OutgoingFrame
from .audio_track import OutgoingAudio
from .rung_selector import RungSelector
from .shared import SharedVideo, VideoStream
from .video_encoding import EncoderCounters, VideoEncoding

SELECT_INTERVAL: Final = 0.5
"""Time between two selections of a rung, in seconds."""

KEY_FRAME_INTERVAL: Final = 2.0
"""Time per key frame request (PLI, FIR) of one viewer in the long run, in seconds. A key frame is several times as
large as other frames, all viewers of an encoding get it, and an encoding makes at most two per second: a viewer that
requests them all the time would cost all others quality. One that loses more than that is moved to a lower rung."""

KEY_FRAME_BURST: Final = 4
"""Maximum number of such requests in a row. Viewers repeat a request until the key frame has arrived."""

MAX_LAG: Final = 45_000
"""Maximum time by which a new stream may lag behind the previous one, in units of 1/90000 s: half a second. The
encoder of a larger size takes longer, so its first key frame shows a moment already sent at the smaller size. Frames
that lag are sent with increasing timestamps until the new stream has caught up."""

_MIN_PACKETS: Final = 20
"""Minimum number of packets assumed when the NACK ratio is computed. Among fewer packets, a single NACK would look
like heavy loss."""


@dataclass(frozen=True, slots=True)
class OutgoingStats:
    """What one viewer was sent since the call began."""

    codec: str
    width: int | None
    height: int | None
    frames: int
    byte_count: int
    rung: int
    """Rung of the quality ladder; 0 is the best."""
    passthrough: bool
    """Whether the source's own encoding is sent."""
    skipped: int
    """Encoded frames that were not sent: the viewer was too slow, or a key frame was missing."""
    encoder: EncoderCounters


class OutgoingVideo:
    """The video that one call sends. It may be opened and started again after ``stop``."""

    kind: Final = "video"

    def __init__(self, shared: SharedVideo) -> None:
        self._shared = shared
        self._held = False
        self._codec = ""
        self._profile_level_id: str | None = None
        self._packetization_mode = 1
        self._stream: VideoStream | None = None
        self._reader: Reader[OutgoingFrame] | None = None
        self._next: tuple[VideoStream, Reader[OutgoingFrame]] | None = None
        """The stream that replaces the current one at its first key frame."""
        self._selector: RungSelector | None = None
        self._selected_at = 0.0
        self._bytes_at_selection = 0
        self._packets_since_selection = 0
        self._nacked: set[int] = set()
        """Sequence numbers that the viewer NACKed since the last selection."""
        self._key_frame_budget = RequestBudget(KEY_FRAME_INTERVAL, KEY_FRAME_BURST)
        self._key_frame_timer: asyncio.TimerHandle | None = None
        """Set while a key frame request waits for the budget."""
        self._decodable = False
        """Whether the viewer has all frames that the next one refers to."""
        self._reader_dropped = 0
        self._last: OutgoingFrame | None = None
        self._frames = self._bytes = self._skipped = 0
        self._previous_encoders = EncoderCounters()
        """Counters of the earlier encoders, for the time in which this viewer read them."""
        self._encoder_at_start = EncoderCounters()
        """Counters of the current encoder when this viewer started to read it."""

    @property
    def profile_level_id(self) -> str | None:
        """The source's profile-level-id if its H.264 can be passed through, to be negotiated first."""
        return self._shared.passthrough.profile_level_id if self._shared.passthrough is not None else None

    def open(self) -> None:
        """Start the source. May be called twice."""
        if not self._held:
            self._held = True
            self._shared.hold()

    def start(
        self,
        codec: str,
        profile_level_id: str | None = None,
        packetization_mode: int = 1,
        *,
        can_probe: bool = False,
    ) -> None:
        """Start sending in the negotiated codec (FFmpeg's name), H.264 profile and packetization mode (0 or 1). See
        ``RungSelector`` for ``can_probe``.

        May be called again, after ``stop`` or instead of it. It begins with a key frame.
        """
        self._close_readers()
        now = asyncio.get_running_loop().time()
        self._codec, self._profile_level_id = codec, profile_level_id
        self._packetization_mode = packetization_mode
        self._selector = RungSelector(tuple(rung.bitrate for rung in self._shared.rungs), now, can_probe=can_probe)
        self._selected_at, self._bytes_at_selection, self._packets_since_selection = now, self._bytes, 0
        self._nacked.clear()
        self._decodable, self._reader_dropped = False, 0
        self._stream = self._shared.stream(codec, profile_level_id, 0, packetization_mode)
        self._encoder_at_start = _counters(self._stream)
        self._reader = self._stream.read()

    async def get(self) -> OutgoingFrame:
        """Wait for the next frame. The viewer can decode it with the frames before it.

        Raises:
            StopAsyncIteration: the track is stopped or not started.
        """
        while True:
            if (reader := self._reader) is None:
                raise StopAsyncIteration
            self._select_stream()
            frame: OutgoingFrame | None = None
            try:
                async with asyncio.timeout(SELECT_INTERVAL):
                    frame = await reader.get()
            except TimeoutError:
                pass
            except StopAsyncIteration:
                if reader is self._reader:
                    raise
            if reader is not self._reader:
                continue  # started again, so the frame is of the previous codec
            if reader.closed:
                raise StopAsyncIteration
            frame = self._switch_stream() or frame
            if frame is not None and self._can_send(frame):
                if self._last is not None and frame.timestamp <= self._last.timestamp:
                    frame = replace(frame, timestamp=self._last.timestamp + 1)
                self._last = frame
                self._frames += 1
                self._bytes += frame.byte_count
                self._packets_since_selection += len(frame.payloads)
                return frame

    def stop(self) -> None:
        """Release the source. May be called twice, and without ``start``."""
        self._close_readers()
        if self._key_frame_timer is not None:
            self._key_frame_timer.cancel()
            self._key_frame_timer = None
        if self._held:
            self._held = False
            self._shared.release()

    def stats(self) -> OutgoingStats | None:
        """Return what was sent so far; ``None`` before ``start``."""
        if self._selector is None:
            return None
        size = self._last.size if self._last is not None else None
        return OutgoingStats(
            codec=self._codec,
            width=size[0] if size else None,
            height=size[1] if size else None,
            frames=self._frames,
            byte_count=self._bytes,
            rung=self._selector.rung,
            passthrough=self._stream is not None and self._stream is self._shared.passthrough,
            skipped=self._skipped,
            encoder=self._encoder_counters(),
        )

    def _encoder_counters(self) -> EncoderCounters:
        """Return the encoders' counters for the time in which this viewer read them; encoders may have run before."""
        previous, start, now = self._previous_encoders, self._encoder_at_start, _counters(self._stream)
        return EncoderCounters(
            previous.frames + now.frames - start.frames,
            previous.seconds + now.seconds - start.seconds,
            previous.dropped + now.dropped - start.dropped,
        )

    # --- feedback of the viewer ---

    def request_key_frame(self) -> None:
        """Request a key frame from the encoder, because the viewer has lost a frame (PLI), now or when its budget
        allows it."""
        if self._key_frame_timer is not None:
            return
        loop = asyncio.get_running_loop()
        if wait := self._key_frame_budget.spend(loop.time()):
            self._key_frame_timer = loop.call_later(wait, self._request_deferred_key_frame)
            return
        self._request_from_encoder()

    def _request_from_encoder(self) -> None:
        # Passthrough ignores requests, so while it is the next stream, the current one has to answer.
        use_next = self._next is not None and self._next[0] is not self._shared.passthrough
        stream = self._next[0] if self._next is not None and use_next else self._stream
        if stream is not None:
            stream.request_key_frame()

    def _request_deferred_key_frame(self) -> None:
        self._key_frame_timer = None
        self.request_key_frame()

    def set_estimate(self, bitrate: int) -> None:
        """Set the viewer's estimate of its bandwidth (REMB), in bit/s."""
        if self._selector is not None:
            self._selector.set_estimate(bitrate, asyncio.get_running_loop().time())

    def add_report(self, loss: float, rtt: float | None) -> None:
        """Add a receiver report: the fraction of packets lost since the previous one, and the RTT in seconds."""
        if self._selector is not None:
            self._selector.add_report(loss, rtt, asyncio.get_running_loop().time())

    def allow_retransmission(self, sequence_number: int) -> bool:
        """Count a NACK of the viewer. Return whether to answer it: not while the current stream is
        abandoned for the next one."""
        self._nacked.add(sequence_number)
        return not self._is_stalled

    def probe_bitrate(self) -> int:
        """Return the bitrate at which to repeat packets in addition to the video now, in bit/s."""
        return 0 if self._selector is None else self._selector.probe_bitrate(asyncio.get_running_loop().time())

    # --- selection of the stream ---

    def _select_stream(self) -> None:
        """Per ``SELECT_INTERVAL``, select the stream for this viewer. If it is another one, start reading it too."""
        assert self._selector is not None
        now = asyncio.get_running_loop().time()
        if now - self._selected_at < SELECT_INTERVAL:
            return
        sent = round((self._bytes - self._bytes_at_selection) * 8 / (now - self._selected_at))
        nack_ratio = min(1.0, len(self._nacked) / max(self._packets_since_selection, _MIN_PACKETS))
        self._selected_at, self._bytes_at_selection, self._packets_since_selection = now, self._bytes, 0
        self._nacked.clear()
        self._selector.bitrates = tuple(rung.bitrate for rung in self._shared.rungs)
        rung = self._selector.select(sent, now, nack_ratio)
        selected = self._shared.stream(self._codec, self._profile_level_id, rung, self._packetization_mode)
        if selected is (self._next[0] if self._next is not None else self._stream):
            return
        self._cancel_switch()
        if selected is not self._stream:
            self._next = selected, selected.read()

    def _close_readers(self) -> None:
        self._previous_encoders, self._encoder_at_start = self._encoder_counters(), EncoderCounters()
        self._stream = None
        if self._reader is not None:
            self._reader.close()
        self._cancel_switch()

    def _cancel_switch(self) -> None:
        if self._next is not None:
            self._next[1].close()
            self._next = None

    def _switch_stream(self) -> OutgoingFrame | None:
        """Switch to the next stream if it has a key frame. Return that key frame."""
        if self._next is None:
            return None
        stream, reader = self._next
        while (frame := reader.get_nowait()) is not None:
            if not frame.key or not self._can_receive(frame):
                continue
            if self._last is not None and frame.timestamp <= self._last.timestamp - MAX_LAG:
                stream.request_key_frame()  # passthrough starts with its last key frame, however old it is
                continue
            assert self._reader is not None
            self._reader.close()
            self._previous_encoders, self._encoder_at_start = self._encoder_counters(), _counters(stream)
            self._stream, self._reader, self._next = stream, reader, None
            self._reader_dropped = reader.dropped
            return frame
        return None

    @property
    def _is_stalled(self) -> bool:
        """Whether almost nothing arrives, so that more frames of the current stream would only delay the next one."""
        return self._next is not None and self._selector is not None and self._selector.stalled

    def _can_receive(self, frame: OutgoingFrame) -> bool:
        """Whether the viewer's packetization mode permits the packets. The NAL units of a source passed through may
        become larger than a packet."""
        return frame.packetization_mode <= self._packetization_mode

    def _can_send(self, frame: OutgoingFrame) -> bool:
        """Whether ``frame`` can be sent: no frame that it refers to is missing, and its timestamp does not go back by
        more than ``MAX_LAG``."""
        assert self._reader is not None
        if self._is_stalled:
            self._decodable = False
            self._skipped += 1
            return False
        if self._reader.dropped > self._reader_dropped:
            self._reader_dropped, self._decodable = self._reader.dropped, False
        if not self._can_receive(frame):
            self._decodable = False
        elif frame.key:
            self._decodable = True
        elif not self._decodable:
            self._request_from_encoder()  # costs no budget: each frame asks until the key frame has come
        in_order = self._last is None or frame.timestamp > self._last.timestamp - MAX_LAG
        self._decodable = self._decodable and in_order
        self._skipped += not self._decodable
        return self._decodable


def _counters(stream: VideoStream | None) -> EncoderCounters:
    """Return a copy of the counters of an encoding. Passthrough has none."""
    return replace(stream.counters) if isinstance(stream, VideoEncoding) else EncoderCounters()


Outgoing = OutgoingVideo | OutgoingAudio
