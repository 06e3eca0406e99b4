"""One receiver of the engine, connected with one ``IncomingTrack``: packets put together, lost ones asked for again.

Like ``engine``, a home of hooks into the engine's private parts; each says what the engine does without it and has
a contract test in ``tests/rtc/test_aiortc_hooks.py``. May be imported by ``connection`` only.

Hook: the engine looks at each packet again and again, until its picture is whole and the next one begins, and decodes
all of it; at eight calls of 720p that was 40 % of a core before any decoding. So ``take`` does its work instead, with
the parts of ``rtp``; the engine keeps what happens seldom: RTCP, reports, the estimate of the bandwidth. Of a track
that nobody wants packets are counted, and no more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.rtp import RTCP_PSFB_APP, RtcpByePacket, RtcpPsfbPacket, RtcpSrPacket, RtpPacket, pack_remb_fci

from ..media.frames import EncodedFrame
from ..media.incoming.track import IncomingTrack
from ..rtp.depacketizer import depacketize
from ..rtp.frame_assembler import AssembledFrame, FrameAssembler
from ..rtp.nack import NackGenerator
from ..rtp.packet import Packet
from ..rtp.remb import RembThrottler
from ..rtp.reorder_buffer import AudioPacket, ReorderBuffer
from ..rtp.sequence import TimestampUnwrapper
from ..rtp.statistics import StreamStatistics
from .rtp_fast_path import TransportPath

log = logging.getLogger(__name__)

MAX_SSRCS: Final = 8
"""Streams that one receiver listens to; we keep packets and figures of each, and a report has room for 31."""

SILENT: Final = 5.0
"""Seconds without a packet after which a stream makes room for a new one: behind a gateway that transfers calls, each
leg has an SSRC of its own."""

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 (NTP, RFC 5905) to 1970 (Unix)."""

_CODEC_NAMES: Final = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}
"""FFmpeg's where they are not RTP's in lower case."""


@dataclass(frozen=True, slots=True)
class _Codec:
    """What a payload type means. ``repairs``: the payload type that it retransmits (RFC 4588), else ``None``."""

    name: str
    clock_rate: int
    repairs: int | None


class _Stream:
    """One SSRC."""

    def __init__(self, ssrc: int, codec: _Codec) -> None:
        self.ssrc = ssrc
        self.codec = codec
        self.statistics = StreamStatistics(codec.clock_rate)
        self.nacks = NackGenerator()
        self.assembler = FrameAssembler()
        self.reorder_buffer = ReorderBuffer()
        self.heard = 0.0
        self.looked_at = False
        self.timestamp: int | None = None  # of the last packet that nobody looked at
        self.timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Somebody looks from now on: what came before is over."""
        self._forget()
        self.looked_at, self.timestamp = True, None

    def rest(self) -> None:
        """Nobody looks any more: what is missing is not asked for again."""
        self._forget()
        self.looked_at = False

    def _forget(self) -> None:
        self.nacks, self.assembler, self.reorder_buffer = NackGenerator(), FrameAssembler(), ReorderBuffer()


class _Queue:
    """Stands in for the queue between the engine's decoder, which gets nothing to do, and its track. The one thing
    that still comes is its end, when the receiver stops."""

    def __init__(self, receiving: Receiving) -> None:
        self._receiving = receiving

    async def put(self, frame: object) -> None:
        if frame is None:
            self._receiving.stop()


class Receiving:
    """Connects one ``RTCRtpReceiver`` with one ``IncomingTrack``. Make it before the transport connects."""

    def __init__(self, receiver: RTCRtpReceiver, track: IncomingTrack) -> None:
        self.receiver = receiver
        self.kind = track.kind
        self._engine = engine = cast(Any, receiver)
        self._track = track
        self._ssrc: int | None = None  # of the media stream that came last
        self._streams: dict[int, _Stream] = {}
        self._report: tuple[float, int] | None = None  # (Unix seconds, RTP timestamp) of the last sender report
        self._timestamps = TimestampUnwrapper()
        self._codecs: dict[int, _Codec] = {}
        self._requests: set[asyncio.Task[None]] = set()
        self._stopped = False
        for name in ("codecs", "rtx_ssrc", "remote_streams", "remote_bitrate_estimator", "rtcp_ssrc"):
            assert hasattr(engine, f"_RTCRtpReceiver__{name}"), f"the engine has no {name} any more"
        estimator = engine._RTCRtpReceiver__remote_bitrate_estimator  # of pictures only
        self._bandwidth = None if estimator is None else RembThrottler(estimator)
        engine._track._queue = _Queue(self)
        engine._handle_rtp_packet = self._engines_packet
        self._handle_rtcp = engine._handle_rtcp_packet
        engine._handle_rtcp_packet = self._rtcp
        TransportPath.of(receiver.transport).add(receiver, self.take)
        track.attach(self._ask_key_frame)

    @property
    def received(self) -> int:
        """Packets of the media stream that came, retransmissions not counted."""
        stream = self._media_stream()
        return 0 if stream is None else stream.statistics.packets_received

    @property
    def lost(self) -> int:
        """Packets of the media stream that did not come, or not at first (RFC 3550 6.4.1)."""
        stream = self._media_stream()
        return 0 if stream is None else stream.statistics.packets_lost

    def stop(self) -> None:
        """The receiver has stopped: nothing is decoded or asked for any more."""
        self._stopped = True
        for stream in self._streams.values():
            if stream.timer is not None:
                stream.timer.cancel()
        self._track.detach(self._ask_key_frame)

    def take(self, packet: Packet) -> None:
        """One packet came, of whatever stream and kind."""
        codec = self._codecs.get(packet.payload_type) or self._known_codec(packet.payload_type)
        if codec is None or self._stopped or not self._engine._enabled:
            return
        now = time.monotonic()
        if self._bandwidth is not None and (estimate := self._bandwidth.add(packet, now)) is not None:
            self._tell_bandwidth(*estimate)
        stream = self._streams.get(packet.ssrc) or self._new_stream(packet.ssrc, codec, now)
        if stream is None:
            return
        stream.heard = now
        number = stream.statistics.add(packet.sequence_number, packet.timestamp, now)
        if number is None:
            return
        if codec.repairs is not None:
            self._repaired(packet, codec.repairs, now)
            return
        if packet.ssrc != self._ssrc:
            self._ssrc, self._report = packet.ssrc, None  # a stream's timestamps begin anywhere
        self._media(stream, codec, number, packet, packet.payload, now)

    def _repaired(self, packet: Packet, payload_type: int, now: float) -> None:
        """A retransmission: the number of the lost packet, then what it held (RFC 4588 4)."""
        stream = self._streams.get(self._engine._RTCRtpReceiver__rtx_ssrc.get(packet.ssrc, -1))
        codec = self._known_codec(payload_type)
        if stream is not None and codec is not None and len(packet.payload) > 2:
            number = stream.statistics.sequence.peek(int.from_bytes(packet.payload[:2]))
            self._media(stream, codec, number, packet, packet.payload[2:], now)

    def _media(self, stream: _Stream, codec: _Codec, number: int, packet: Packet, data: bytes, now: float) -> None:
        newest = number >= stream.statistics.sequence.highest
        if codec is not stream.codec and codec != stream.codec:
            if not newest:
                return  # from before the sender changed to another codec
            stream.codec, stream.looked_at = codec, False
        if not self._track.wanted:
            if stream.looked_at:
                stream.rest()
            new = newest and packet.timestamp != stream.timestamp
            stream.timestamp = packet.timestamp if newest else stream.timestamp
            self._track.pass_by(codec.name, len(data), new=new)
            self._track.counters.jitter = stream.statistics.jitter_seconds
            return
        if not stream.looked_at:
            stream.begin()
        try:
            piece = depacketize(codec.name, data)
        except ValueError as exc:  # it counts as lost
            log.debug("< %s", exc)
            return
        if self.kind == "audio":
            self._feed(stream, stream.reorder_buffer.add(number, packet.timestamp, piece.data, now))
            return
        lost = stream.nacks.add(number, now)
        if lost:
            self._ask_again(stream, lost)
        self._feed(stream, stream.assembler.add(number, packet.timestamp, packet.marker, piece))
        if stream.nacks.missing:
            self._watch(stream)

    # --- what is missing ---

    def _watch(self, stream: _Stream) -> None:
        """Look again when something should have come by then. Hook: the engine asks once for what is lost, and does
        nothing else about it: one packet lost for good froze the picture until its buffer was full, 27 s at one
        packet a picture."""
        if stream.assembler.next_number is not None:
            stream.nacks.discard_below(stream.assembler.next_number)
        wait = stream.nacks.delay(time.monotonic())
        if wait is not None and stream.timer is None:
            stream.timer = asyncio.get_running_loop().call_later(wait, self._look, stream)

    def _look(self, stream: _Stream) -> None:
        stream.timer = None
        again, hopeless = stream.nacks.due(time.monotonic())
        if again:
            self._ask_again(stream, again)
        if hopeless:
            self._feed(stream, stream.assembler.skip_missing())
        self._watch(stream)

    def _ask_again(self, stream: _Stream, numbers: Iterable[int]) -> None:
        self._send(self._engine._send_rtcp_nack(stream.ssrc, sorted({number & 0xFFFF for number in numbers})))

    def _ask_key_frame(self) -> None:
        if self._ssrc is not None:
            self._send(self._engine._send_rtcp_pli(self._ssrc))

    def _tell_bandwidth(self, bitrate: int, ssrcs: list[int]) -> None:
        ssrc = self._engine._RTCRtpReceiver__rtcp_ssrc
        if ssrc is not None:
            fci = pack_remb_fci(bitrate, ssrcs[:MAX_SSRCS])
            self._send(self._engine._send_rtcp(RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=ssrc, media_ssrc=0, fci=fci)))

    def _send(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(sending)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    # --- the engine's side ---

    def _media_stream(self) -> _Stream | None:
        return None if self._ssrc is None else self._streams.get(self._ssrc)

    def _known_codec(self, payload_type: int) -> _Codec | None:
        """What was negotiated for a payload type, once it was."""
        found = self._engine._RTCRtpReceiver__codecs.get(payload_type)
        if found is None:
            return None
        name, repairs = found.name.lower(), None
        if is_rtx(found):
            repairs = found.parameters.get("apt")
            if not isinstance(repairs, int):
                return None
        codec = _Codec(_CODEC_NAMES.get(name, name), found.clockRate, repairs)
        self._codecs[payload_type] = codec
        return codec

    def _new_stream(self, ssrc: int, codec: _Codec, now: float) -> _Stream | None:
        if len(self._streams) >= MAX_SSRCS:
            oldest = min(self._streams.values(), key=lambda stream: stream.heard)
            if now - oldest.heard < SILENT:
                return None
            self._forget(oldest)
        stream = self._streams[ssrc] = _Stream(ssrc, codec)
        self._engine._RTCRtpReceiver__remote_streams[ssrc] = stream.statistics  # the engine reports it
        return stream

    def _forget(self, stream: _Stream) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
        del self._streams[stream.ssrc]
        del self._engine._RTCRtpReceiver__remote_streams[stream.ssrc]

    async def _engines_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        """Stands in for the engine's ``_handle_rtp_packet``: what did not come by ``TransportPath``."""
        self.take(
            Packet(
                packet.payload_type,
                packet.sequence_number,
                packet.timestamp,
                packet.ssrc,
                packet.payload,
                marker=bool(packet.marker),
                padding=packet.padding_size,
                abs_send_time=packet.extensions.abs_send_time,
            )
        )

    async def _rtcp(self, packet: Any) -> None:
        if isinstance(packet, RtcpByePacket):
            return  # Hook: at a BYE the engine stops for good, and the call stays as it is
        # A sender that has no wall clock says zero (RFC 3550 6.4.1): nothing that two streams could be compared by.
        if isinstance(packet, RtcpSrPacket) and packet.ssrc == self._ssrc and packet.sender_info.ntp_timestamp:
            seconds = packet.sender_info.ntp_timestamp / (1 << 32) - NTP_EPOCH
            timestamp = self._timestamps.peek(packet.sender_info.rtp_timestamp)
            if timestamp is not None:
                self._report = (seconds, timestamp)
        await self._handle_rtcp(packet)

    def _feed(self, stream: _Stream, frames: Sequence[AssembledFrame | AudioPacket]) -> None:
        codec = stream.codec
        if lost := stream.assembler.incomplete + stream.reorder_buffer.lost:
            stream.assembler.incomplete = stream.reorder_buffer.lost = 0
            self._track.lost(lost, key_is_here=bool(frames) and frames[0].key)
        for frame in frames:
            timestamp = self._timestamps.unwrap(frame.timestamp)
            ntp = None
            if self._report is not None:
                ntp = self._report[0] + (timestamp - self._report[1]) / codec.clock_rate
            self._track.counters.jitter = stream.statistics.jitter_seconds
            self._track.feed(
                EncodedFrame(
                    kind=self.kind,
                    codec=codec.name,
                    data=frame.data,
                    timestamp=timestamp,
                    clock_rate=codec.clock_rate,
                    key=frame.key,
                    arrival=time.monotonic(),
                    ntp=ntp,
                    gap=frame.gap,
                )
            )
