"""One receiver of the engine, connected with one ``IncomingTrack``: packets put together, lost ones asked for again.

Like ``engine``, a home of hooks into the engine's private parts; each says what the engine does without it and has
a contract test in ``tests/test_engine.py``. May be imported by ``connection`` only.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import time
from collections.abc import Callable
from typing import Any, Final, cast

import av
from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtcpByePacket, RtcpSrPacket, RtpPacket

from .media.frames import EncodedFrame
from .media.incoming import IncomingTrack

log = logging.getLogger(__name__)

MAX_DECODER_BACKLOG: Final = 30
"""Frames that may wait for the decoder: a second of them. Beyond, we go on at a key frame."""

MAX_SSRCS: Final = 8
"""Streams that one receiver listens to; the engine keeps statistics of each, and its report has room for 31."""

NACK_AGAIN: Final = 0.1
"""Seconds after which a lost packet is asked for again: longer than most round trips."""

GIVE_UP: Final = 0.4
"""Seconds after which a lost packet is given up: pictures go on at a key frame. A frozen picture is worse."""

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 (NTP, RFC 5905) to 1970 (Unix)."""

_CODEC_NAMES: Final = {
    "vp8": "vp8",
    "h264": "h264",
    "opus": "opus",
    "pcmu": "pcm_mulaw",
    "pcma": "pcm_alaw",
    "g722": "g722",
}


class MarkerJitterBuffer(JitterBuffer):
    """Hands a picture out when its last packet is there, which the RTP marker bit tells (RFC 6184 5.1, RFC 7741
    4.1). Hook: the engine waits for the first packet of the next picture: 39 ms at 30 fps, 106 ms at 10 fps."""

    def __init__(self) -> None:
        super().__init__(capacity=512, is_video=True)
        self.lost = True
        """Pictures are missing between the last one that was handed out, if any, and the next one."""

    def add(self, packet: RtpPacket) -> tuple[bool, JitterFrame | None]:
        overrun, frame = super().add(packet)
        self.lost = self.lost or overrun  # the engine threw away what was not whole, and asks for a key frame
        return overrun, frame

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:
        frame = super()._remove_frame(sequence_number)
        return frame if frame is not None else self.pop_complete()

    def pop_complete(self) -> JitterFrame | None:
        """The picture at the front if all of it is there, else ``None``."""
        data: list[bytes] = []
        timestamp: int | None = None
        for count in range(self.capacity):
            packet: Any = self._packets[(self._origin + count) % self.capacity] if self._origin is not None else None
            if packet is None or timestamp not in (None, packet.timestamp):
                return None
            timestamp = packet.timestamp
            data.append(packet._data)
            if packet.marker:
                self.remove(count + 1)
                return JitterFrame(data=b"".join(data), timestamp=timestamp)
        return None

    def skip_gap(self) -> None:
        """Give up what is missing at the front, and the pictures it is part of; what is whole behind it stays."""
        if self._origin is None:
            return
        ahead = range(self.capacity)
        at = [cast(Any, self._packets[(self._origin + count) % self.capacity]) for count in ahead]
        gap = next((count for count in ahead if at[count] is None), None)
        if gap is None:
            return
        after = next((count for count in ahead if count > gap and at[count] is not None), None)
        if after is None:
            return
        self.lost = True
        end = after
        while end < self.capacity and at[end] is not None and at[end].timestamp == at[after].timestamp:
            end += 1
        self.remove(end)


class Losses:
    """When to ask for lost packets again, and when to give them up. PURE: time is an argument."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._asked: dict[int, float] = {}

    def look(self, missing: set[int], now: float) -> tuple[list[int], bool]:
        """Of what is ``missing`` now (sequence numbers): what to ask for again, and whether to give up."""
        self._since = {number: self._since.get(number, now) for number in missing}
        self._asked = {number: self._asked.get(number, now) for number in missing}  # the engine asked once
        if any(now - since >= GIVE_UP for since in self._since.values()):
            return [], True
        again = [number for number, asked in self._asked.items() if now - asked >= NACK_AGAIN]
        self._asked |= dict.fromkeys(again, now)
        return sorted(again), False


class _Timestamps:
    """Unwraps 32-bit RTP timestamps; ``origin`` is the first one. Stands in for the engine's TimestampMapper."""

    def __init__(self) -> None:
        self.origin: int | None = None
        self._last = 0

    def map(self, timestamp: int) -> int:
        if self.origin is None:
            self.origin = timestamp
            return 0
        self._last += ((timestamp - self.origin - self._last + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
        return self._last

    def relative(self, timestamp: int) -> int | None:
        """Where a 32-bit timestamp lies, near the last one, which it does not move; ``None`` before the first."""
        if self.origin is None:
            return None
        return self._last + ((timestamp - self.origin - self._last + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


class _Tap(queue.Queue[Any]):
    """Stands in for the receiver's decoder queue: gets every encoded frame first, and decides what is decoded.

    Hook: the engine decodes what nobody reads, and lets it pile up (14.6 MB a second).
    """

    def __init__(self, on_frame: Callable[[RTCRtpCodecParameters, JitterFrame], None]) -> None:
        super().__init__()
        self._on_frame = on_frame

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is None:  # the engine joins its decoder thread in the event loop: let it not work off a backlog
            with self.mutex:
                self.queue.clear()
            super().put(None)
            return
        try:
            self._on_frame(*item)
        except Exception:  # an exception here would end the connection's receive loop
            log.exception("a frame could not be taken")

    def decode(self, codec: RTCRtpCodecParameters, frame: JitterFrame) -> bool:
        """Hand a frame to the decoder thread; false when it is too far behind."""
        if self.qsize() >= MAX_DECODER_BACKLOG:
            return False
        super().put((codec, frame))
        return True


class _DecodedFrames:
    """Stands in for the remote track's unbounded queue: frames go straight to the fan-out, in the event loop."""

    def __init__(self, track: IncomingTrack) -> None:
        self._track = track

    async def put(self, frame: av.VideoFrame | av.AudioFrame | None) -> None:
        if frame is not None:
            self._track.feed_decoded(frame)


def _is_key(codec: str, data: bytes) -> bool:
    if codec == "vp8":
        return bool(data) and not data[0] & 0x01  # RFC 6386 9.1
    if codec == "h264":
        start = data.find(b"\x00\x00\x01")
        while start >= 0 and start + 3 < len(data):
            if data[start + 3] & 0x1F in (5, 7):  # IDR slice, SPS (ITU-T H.264 table 7-1)
                return True
            start = data.find(b"\x00\x00\x01", start + 3)
        return False
    return True


class Receiving:
    """Connects one ``RTCRtpReceiver`` with one ``IncomingTrack``. Make it before the transport connects."""

    def __init__(self, receiver: RTCRtpReceiver, track: IncomingTrack) -> None:
        self.receiver = receiver
        self.kind = track.kind
        self._receiver = cast(Any, receiver)
        self._track = track
        self._ssrc: int | None = None
        self._report: tuple[float, int] | None = None  # (Unix seconds, RTP timestamp) of the last sender report
        self._buffer: MarkerJitterBuffer | None = None
        self._timestamps = _Timestamps()
        self._tap = _Tap(self._encoded)
        self._codec: RTCRtpCodecParameters | None = None
        receiver_ = self._receiver
        for name in (
            "decoder_queue",
            "jitter_buffer",
            "timestamp_mapper",
            "codecs",
            "nack_generator",
            "remote_streams",
        ):
            assert hasattr(receiver_, f"_RTCRtpReceiver__{name}"), f"the engine has no {name} any more"
        receiver_._RTCRtpReceiver__decoder_queue = self._tap
        receiver_._RTCRtpReceiver__timestamp_mapper = self._timestamps
        if track.kind == "video":
            self._buffer = receiver_._RTCRtpReceiver__jitter_buffer = MarkerJitterBuffer()
        receiver_._track._queue = _DecodedFrames(track)
        self._handle_rtp, self._handle_rtcp = receiver_._handle_rtp_packet, receiver_._handle_rtcp_packet
        receiver_._handle_rtp_packet = self._rtp
        receiver_._handle_rtcp_packet = self._rtcp
        self._nacks = receiver_._RTCRtpReceiver__nack_generator
        self._losses = Losses()
        self._ssrcs: set[int] = set()
        self._requests: set[asyncio.Task[None]] = set()
        track.attach(self._decode, self._ask_key_frame)

    @property
    def received(self) -> int:
        """Packets of the media stream that came, retransmissions not counted."""
        stream = self._statistics()
        return 0 if stream is None else int(stream.packets_received)

    @property
    def lost(self) -> int:
        """Packets of the media stream that did not come, or not at first (RFC 3550 6.4.1)."""
        stream = self._statistics()
        return 0 if stream is None else int(stream.packets_lost)

    def _statistics(self) -> Any:
        return self._receiver._RTCRtpReceiver__remote_streams.get(self._ssrc)

    async def _rtp(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        """Hook: lost packets are asked for once and never again, and nothing else is done about them: one packet
        lost for good froze the picture until the jitter buffer was full, 27 s at one packet a picture."""
        if packet.ssrc not in self._ssrcs:
            if len(self._ssrcs) >= MAX_SSRCS:
                return
            self._ssrcs.add(packet.ssrc)
        codec = self._receiver._RTCRtpReceiver__codecs.get(packet.payload_type)
        if codec is not None and not is_rtx(codec):
            self._ssrc = packet.ssrc
        await self._handle_rtp(packet, arrival_time_ms=arrival_time_ms)
        if self._nacks is not None and self._nacks.missing and self._ssrc is not None:
            again, hopeless = self._losses.look(self._nacks.missing, time.monotonic())
            if again:
                await self._receiver._send_rtcp_nack(self._ssrc, again)
            if hopeless:
                self._give_up()

    def _give_up(self) -> None:
        assert self._buffer is not None and self._nacks is not None
        self._nacks.missing.clear()
        self._buffer.skip_gap()
        self._track.decoder_restarts()
        if self._codec is not None:
            self._drain(self._codec)

    async def _rtcp(self, packet: Any) -> None:
        if isinstance(packet, RtcpByePacket):
            return  # Hook: at a BYE the engine stops decoding for good, and the call stays as it is
        if isinstance(packet, RtcpSrPacket) and packet.ssrc == self._ssrc:
            seconds = packet.sender_info.ntp_timestamp / (1 << 32) - NTP_EPOCH
            timestamp = self._timestamps.relative(packet.sender_info.rtp_timestamp)
            if timestamp is not None:
                self._report = (seconds, timestamp)
        await self._handle_rtcp(packet)

    def _encoded(self, codec: RTCRtpCodecParameters, frame: JitterFrame) -> None:
        self._codec = codec
        self._feed(codec, frame)
        self._drain(codec)

    def _drain(self, codec: RTCRtpCodecParameters) -> None:
        """The engine takes one picture a packet out of the buffer; after a gap more may be whole."""
        while self._buffer is not None and (frame := self._buffer.pop_complete()) is not None:
            frame.timestamp = self._timestamps.map(frame.timestamp)
            self._feed(codec, frame)

    def _feed(self, codec: RTCRtpCodecParameters, frame: JitterFrame) -> None:
        if not frame.data:
            return  # padding
        name = _CODEC_NAMES.get(codec.name.lower(), codec.name.lower())
        gap = False
        if self._buffer is not None:
            gap, self._buffer.lost = self._buffer.lost, False
        ntp = None
        if self._report is not None:
            ntp = self._report[0] + (frame.timestamp - self._report[1]) / codec.clockRate
        self._track.feed(
            EncodedFrame(
                kind=self._track.kind,
                codec=name,
                data=frame.data,
                timestamp=frame.timestamp,
                clock_rate=codec.clockRate,
                key=_is_key(name, frame.data),
                arrival=time.monotonic(),
                ntp=ntp,
                gap=gap,
            )
        )

    def _decode(self, frame: EncodedFrame) -> None:
        assert self._codec is not None
        if not self._tap.decode(self._codec, JitterFrame(data=frame.data, timestamp=frame.timestamp)):
            self._track.decoder_restarts()

    def _ask_key_frame(self) -> None:
        if self._ssrc is None:
            return
        task = asyncio.get_running_loop().create_task(self._receiver._send_rtcp_pli(self._ssrc))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
