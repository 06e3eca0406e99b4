"""Receive path of one RTCRtpReceiver: from RTP packets to the encoded frames of an ``IncomingTrack``.

Hook: for each packet, the engine scans its jitter buffer again. It delivers a frame only when the next one begins,
and decodes all frames. Eight calls of 720p took 40% of a core without any decoding. ``receive`` uses ``peer.rtp``
instead. The engine still handles RTCP, receiver reports and the bandwidth estimate. The packets of a track without
readers are only counted.

Contract tests are in ``tests/rtc/test_receiver.py``. Only ``connection`` imports this module.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any, Final, cast

from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtpReceiveParameters
from aiortc.rtp import RTCP_PSFB_APP, RtcpByePacket, RtcpPsfbPacket, RtcpSrPacket, RtpPacket, pack_remb_fci

from ..codecs.names import ffmpeg_name
from ..log_limit import LimitedLogger
from ..media.frames import EncodedFrame
from ..media.incoming.track import IncomingTrack
from ..rtp.depacketizer import depacketize
from ..rtp.frame_assembler import AssembledFrame
from ..rtp.ntp import from_ntp
from ..rtp.packet import Packet
from ..rtp.remb import RembThrottler
from ..rtp.reorder_buffer import AudioPacket
from ..rtp.sequence import TimestampUnwrapper
from .receive_stream import Codec, ReceiveStream
from .rtp_fast_path import RtpFastPath

log = LimitedLogger(logging.getLogger(__name__))

MAX_SSRCS: Final = 8
"""Maximum number of streams per receiver. Each buffers packets, and a receiver report has room for 31."""

STREAM_TIMEOUT: Final = 5.0
"""Seconds without a packet after which a new stream may replace this one. A gateway that transfers calls uses a new
SSRC for each leg."""


class _EngineQueue:
    """A substitute for the queue from the engine's decoder to its track. It carries only ``None``, at the end."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def put(self, frame: object) -> None:
        if frame is None:
            self._receiver.stop()


class Receiver:
    """Receive path from ``rtp_receiver`` to ``track``. Create it before it is negotiated for receiving."""

    def __init__(self, rtp_receiver: RTCRtpReceiver, track: IncomingTrack) -> None:
        self.rtp_receiver = rtp_receiver
        self.kind = track.kind
        self._engine = engine = cast(Any, rtp_receiver)
        self.track = track
        self._ssrc: int | None = None  # of the media stream that was received last
        self._streams: dict[int, ReceiveStream] = {}
        self._sender_report: tuple[float, int] | None = None  # Unix seconds, RTP timestamp
        self._timestamps = TimestampUnwrapper()
        self._codecs: dict[int, Codec] = {}
        self._rtcp_tasks: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._parameters: RTCRtpReceiveParameters | None = None
        for name in ("started", "codecs", "rtx_ssrc", "remote_streams", "remote_bitrate_estimator", "rtcp_ssrc"):
            assert hasattr(engine, f"_RTCRtpReceiver__{name}"), f"the engine no longer has {name}"
        estimator = engine._RTCRtpReceiver__remote_bitrate_estimator  # of video only
        self._remb = None if estimator is None else RembThrottler(estimator)
        engine._track._queue = _EngineQueue(self)
        self._engine_receive, engine.receive = engine.receive, self._configure
        engine._handle_rtp_packet = self._handle_engine_packet
        self._engine_handle_rtcp = engine._handle_rtcp_packet
        engine._handle_rtcp_packet = self._handle_rtcp
        self._path = RtpFastPath.of(rtp_receiver.transport)
        self._path.add_receiver(rtp_receiver, self.receive)
        track.attach(self._send_pli)

    @property
    def received(self) -> int:
        """Packets of the media stream that were received, without retransmissions."""
        stream = self._media_stream()
        return 0 if stream is None else stream.statistics.packets_received

    @property
    def lost(self) -> int:
        """Packets of the media stream that were lost, including those that a retransmission replaced (RFC 3550
        6.4.1)."""
        stream = self._media_stream()
        return 0 if stream is None else stream.statistics.packets_lost

    def feed(self, track: IncomingTrack) -> None:
        """Feed another track from now on, from a key frame on."""
        self.track.detach(self._send_pli)
        self.track = track
        track.attach(self._send_pli)

    def reset(self) -> None:
        """Forget which packets are received: the remote uses the section for other media now."""
        self._engine.transport._unregister_rtp_receiver(self.rtp_receiver)
        self._path.forget_routes()
        self._parameters = None

    def stop(self) -> None:
        """Stop processing packets and sending RTCP, when the engine's receiver stops."""
        self._stopped = True
        for stream in self._streams.values():
            stream.cancel_timer()
        self.track.detach(self._send_pli)

    # --- packets ---

    def receive(self, packet: Packet) -> None:
        """Process a packet of any stream, media or RTX."""
        codec = self._codecs.get(packet.payload_type) or self._find_codec(packet.payload_type)
        if codec is None or self._stopped or not self._engine._enabled:
            return
        now = time.monotonic()
        if self._remb is not None and (estimate := self._remb.add(packet, now)) is not None:
            self._send_remb(*estimate)
        stream = self._streams.get(packet.ssrc) or self._add_stream(packet.ssrc, codec, now)
        if stream is None:
            return
        stream.last_packet_at = now
        number = stream.statistics.add(packet.sequence_number, packet.timestamp, now)
        if number is None:
            return
        if codec.retransmits is not None:
            self._receive_rtx(packet, codec.retransmits, now)
            return
        if packet.ssrc != self._ssrc:
            self._ssrc, self._sender_report = packet.ssrc, None  # a new stream has a new timestamp offset
        self._receive_media(stream, codec, number, packet, packet.payload, now)

    def _receive_rtx(self, packet: Packet, payload_type: int, now: float) -> None:
        """Process a retransmission: the original sequence number, then the original payload (RFC 4588 4)."""
        stream = self._streams.get(self._engine._RTCRtpReceiver__rtx_ssrc.get(packet.ssrc, -1))
        codec = self._find_codec(payload_type)
        if stream is not None and codec is not None and len(packet.payload) > 2:
            number = stream.statistics.sequence.peek(int.from_bytes(packet.payload[:2]))
            self._receive_media(stream, codec, number, packet, packet.payload[2:], now)

    def _receive_media(
        self, stream: ReceiveStream, codec: Codec, number: int, packet: Packet, data: bytes, now: float
    ) -> None:
        is_newest = number >= stream.statistics.sequence.highest
        if codec is not stream.codec and codec != stream.codec:
            if not is_newest:
                return  # from before the sender switched to another codec
            stream.codec, stream.consumed = codec, False
        if not self.track.needed:
            if stream.consumed:
                stream.stop_consuming()
            is_new_frame = is_newest and packet.timestamp != stream.skipped_timestamp
            stream.skipped_timestamp = packet.timestamp if is_newest else stream.skipped_timestamp
            self.track.count_unneeded(codec.name, len(data), new_frame=is_new_frame)
            self.track.counters.jitter = stream.statistics.jitter_seconds
            return
        if not stream.consumed:
            stream.start_consuming()
        try:
            payload = depacketize(codec.name, data)
        except ValueError as exc:  # counted as lost
            log.debug("< dropped a packet: %s", exc)
            return
        if self.kind == "audio":
            self._deliver(stream, stream.reorder_buffer.add(number, packet.timestamp, payload.data, now))
            return
        gap = stream.nacks.add(number, now)
        if gap:
            self._send_nack(stream, gap)
        self._deliver(stream, stream.assembler.add(number, packet.timestamp, packet.marker, payload))
        if stream.nacks.missing:
            self._schedule_nack_check(stream)

    def _deliver(self, stream: ReceiveStream, frames: Sequence[AssembledFrame | AudioPacket]) -> None:
        codec = stream.codec
        if lost := stream.assembler.incomplete + stream.reorder_buffer.lost:
            stream.assembler.incomplete = stream.reorder_buffer.lost = 0
            self.track.report_loss(lost, key_frame_follows=bool(frames) and frames[0].key)
        for frame in frames:
            timestamp = self._timestamps.unwrap(frame.timestamp)
            ntp = None
            if self._sender_report is not None:
                ntp = self._sender_report[0] + (timestamp - self._sender_report[1]) / codec.clock_rate
            self.track.counters.jitter = stream.statistics.jitter_seconds
            self.track.put(
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

    # --- feedback to the sender ---

    def _schedule_nack_check(self, stream: ReceiveStream) -> None:
        """Schedule the next check for missing packets.

        Hook: the engine sends only one NACK per lost packet. If no retransmission arrives, the video freezes until
        the engine's jitter buffer is full: 27 s at one packet per frame.
        """
        if stream.assembler.next_number is not None:
            stream.nacks.discard_below(stream.assembler.next_number)
        delay = stream.nacks.delay(time.monotonic())
        if delay is not None and stream.timer is None:
            stream.timer = asyncio.get_running_loop().call_later(delay, self._check_missing, stream)

    def _check_missing(self, stream: ReceiveStream) -> None:
        stream.timer = None
        retries, give_up = stream.nacks.due(time.monotonic())
        if retries:
            self._send_nack(stream, retries)
        if give_up:
            self._deliver(stream, stream.assembler.skip_missing())
        self._schedule_nack_check(stream)

    def _send_nack(self, stream: ReceiveStream, numbers: Iterable[int]) -> None:
        self._send_rtcp(self._engine._send_rtcp_nack(stream.ssrc, sorted({number & 0xFFFF for number in numbers})))

    def _send_pli(self) -> None:
        if self._ssrc is not None:
            self._send_rtcp(self._engine._send_rtcp_pli(self._ssrc))

    def _send_remb(self, bitrate: int, ssrcs: list[int]) -> None:
        ssrc = self._engine._RTCRtpReceiver__rtcp_ssrc
        if ssrc is not None:
            fci = pack_remb_fci(bitrate, ssrcs[:MAX_SSRCS])
            remb = RtcpPsfbPacket(fmt=RTCP_PSFB_APP, ssrc=ssrc, media_ssrc=0, fci=fci)
            self._send_rtcp(self._engine._send_rtcp(remb))

    def _send_rtcp(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(sending)
        self._rtcp_tasks.add(task)
        task.add_done_callback(self._rtcp_tasks.discard)

    # --- streams and codecs ---

    def _media_stream(self) -> ReceiveStream | None:
        return None if self._ssrc is None else self._streams.get(self._ssrc)

    def _find_codec(self, payload_type: int) -> Codec | None:
        """Return the codec of a payload type, once it is negotiated."""
        found = self._engine._RTCRtpReceiver__codecs.get(payload_type)
        if found is None:
            return None
        retransmits = None
        if is_rtx(found):
            retransmits = found.parameters.get("apt")
            if not isinstance(retransmits, int):
                return None
        codec = Codec(ffmpeg_name(found.name), found.clockRate, retransmits)
        self._codecs[payload_type] = codec
        return codec

    def _add_stream(self, ssrc: int, codec: Codec, now: float) -> ReceiveStream | None:
        """Add a stream, in place of an inactive one if there are ``MAX_SSRCS``. ``None`` if all are active."""
        if len(self._streams) >= MAX_SSRCS:
            oldest = min(self._streams.values(), key=lambda stream: stream.last_packet_at)
            if now - oldest.last_packet_at < STREAM_TIMEOUT:
                return None
            self._remove_stream(oldest)
        stream = self._streams[ssrc] = ReceiveStream(ssrc, codec)
        self._engine._RTCRtpReceiver__remote_streams[ssrc] = stream.statistics  # read by the engine's report task
        return stream

    def _remove_stream(self, stream: ReceiveStream) -> None:
        stream.cancel_timer()
        del self._streams[stream.ssrc]
        del self._engine._RTCRtpReceiver__remote_streams[stream.ssrc]

    # --- hooks of the engine's receiver ---

    async def _configure(self, parameters: RTCRtpReceiveParameters) -> None:
        """Apply the negotiated parameters. Replaces the engine's ``receive``.

        Hook: the engine ignores all parameters but the first. Codecs of earlier ones stay known, because packets with
        their payload types may still be on the way.
        """
        if parameters == self._parameters:
            return
        self._parameters = parameters
        if not self._engine._RTCRtpReceiver__started:
            await self._engine_receive(parameters)
            return
        self._codecs.clear()
        self._engine._RTCRtpReceiver__codecs.update({codec.payloadType: codec for codec in parameters.codecs})
        rtx = {encoding.rtx.ssrc: encoding.ssrc for encoding in parameters.encodings if encoding.rtx}
        self._engine._RTCRtpReceiver__rtx_ssrc.update(rtx)
        for ssrc in list(self._engine._RTCRtpReceiver__rtx_ssrc)[:-MAX_SSRCS]:
            del self._engine._RTCRtpReceiver__rtx_ssrc[ssrc]
        self._engine.transport._register_rtp_receiver(self.rtp_receiver, parameters)
        self._path.forget_routes()

    async def _handle_engine_packet(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        """Process a packet that did not take ``RtpFastPath``. Replaces the engine's ``_handle_rtp_packet``."""
        self.receive(
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

    async def _handle_rtcp(self, packet: Any) -> None:
        """Drop BYE, and store the clock of sender reports.

        Hook: at a BYE the engine stops its receiver for good, although the call continues.
        """
        if isinstance(packet, RtcpByePacket):
            return
        # A sender without a wall clock reports zero (RFC 3550 6.4.1), which cannot synchronize streams.
        if isinstance(packet, RtcpSrPacket) and packet.ssrc == self._ssrc and packet.sender_info.ntp_timestamp:
            seconds = from_ntp(packet.sender_info.ntp_timestamp, now=time.time())
            timestamp = self._timestamps.peek(packet.sender_info.rtp_timestamp)
            if timestamp is not None:
                self._sender_report = (seconds, timestamp)
        await self._engine_handle_rtcp(packet)
