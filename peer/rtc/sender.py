"""Send path of one RTCRtpSender: RTP from the packets that an outgoing track has made for all viewers.

Hook: in the engine every sender reads and encodes frames for itself. 720p30 in VP8 takes 29% of a core for one viewer
and 177% for eight. ``Sender`` replaces this loop with one that sends packets made once for all viewers. Key frame
requests, receiver reports and bandwidth estimates go to the track instead of the engine's encoder.

Contract tests are in ``tests/rtc/test_sender.py``. Only ``connection`` imports this module.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from aiortc import RTCRtpSender
from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import State
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, RtcpRrPacket, RtcpSrPacket, unpack_remb_fci

from ..codecs.names import ffmpeg_name
from ..log_limit import LimitedLogger
from ..media.frames import OutgoingFrame, media_time
from ..media.outgoing.track import Outgoing
from ..rtp.header import HeaderWriter
from ..rtp.ntp import to_ntp

log = LimitedLogger(logging.getLogger(__name__))

HISTORY_SIZE: Final = 1024
"""Number of packets kept for retransmission: three seconds of 720p. The engine keeps 128, fewer than are sent with a
large key frame and within the RTT after it."""

MAX_BURST: Final = 16
"""Maximum number of packets sent before other tasks may run. A key frame for 16 viewers would block the event loop
for 50 ms."""

BLOCKED_POLL_INTERVAL: Final = 0.01
"""Interval between two checks of a blocked socket, in seconds. A datagram transport does not signal that it accepts
data again."""

MAX_RETRANSMITTED: Final = 0.5
"""Retransmission budget per packet sent. A receiver that NACKs more than half of the stream is broken or hostile."""

MAX_PADDING_BURST: Final = 0.1
"""Maximum padding sent at once after a pause, in seconds at the bitrate of the padding."""

MAX_SENDER_REPORTS: Final = 8
"""Number of sender reports whose send time is kept. One is sent per second, and the RTT may exceed a second."""

_ENGINE_ATTRIBUTES: Final = (
    *("rtp_started", "rtp_exited", "ntp_timestamp", "rtp_timestamp", "octet_count", "packet_count"),
)
"""Private attributes of the engine's sender that are used here."""

SentPacket = tuple[int, int, bool, bytes]
"""A packet kept for retransmission: sequence number, timestamp, marker, data.

The data is the payload if RTX is negotiated, and otherwise the protected datagram. Without RTX a retransmission has
the sequence number of the original, from which AES-GCM derives the nonce. Two different packets under one nonce would
reveal the authentication key (RFC 7714 8.2, 9.1)."""


class Sender:
    """Send path of ``track`` through ``rtp_sender``. Owns the track. Create it before the transport connects.

    Parameters may change with each negotiation. Sequence numbers and timestamps go on (RFC 3550 5.1).
    """

    def __init__(self, rtp_sender: RTCRtpSender, track: Outgoing) -> None:
        self.rtp_sender = rtp_sender
        self.track = track
        self.retransmitted = 0
        """Number of retransmitted packets."""
        self._engine = engine = cast(Any, rtp_sender)
        for name in _ENGINE_ATTRIBUTES:
            assert hasattr(rtp_sender, f"_RTCRtpSender__{name}"), f"the engine no longer has {name}"
        self._engine_send, engine.send = engine.send, self._start
        self._engine_handle_rtcp, engine._handle_rtcp_packet = engine._handle_rtcp_packet, self._handle_rtcp
        engine._run_rtp = self._run
        engine._retransmit = self._retransmit
        self._engine_send_rtcp, engine._send_rtcp = engine._send_rtcp, self._send_rtcp
        engine._send_keyframe = track.request_key_frame
        self._history: list[SentPacket | None] = [None] * HISTORY_SIZE
        self._retransmission_budget = 0.0
        self._padded_at = 0.0
        self._padding_due = 0.0  # in bytes; negative after a packet that was larger than what was due
        self._sender_reports: dict[int, float | None] = {}
        """Monotonic send times of the last sender reports, by their ``lsr`` value (RFC 3550 6.4.1). ``None`` if two
        reports have the same."""
        self._size: tuple[int, int] | None = None
        self._sequence_number = random.getrandbits(15)  # below 2**15, because SRTP's roll-over count starts at zero
        self._rtx_sequence_number = random.getrandbits(15)
        self._timestamp_offset = random.getrandbits(32)
        self._rtx_payload_type: int | None = None
        self._payload_type = 0
        self._clock_rate = 90_000
        self._header = HeaderWriter({}, "")
        self._codec: RTCRtpCodecParameters | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._holds = 0  # number of calls of ``hold``
        self._sending = False  # whether the track is started

    def hold(self) -> None:
        """Stop sending and release the source, until ``resume``. RTCP goes on (RFC 3264 8.4)."""
        self._holds += 1
        self._resumed.clear()
        self._history = [None] * HISTORY_SIZE  # nothing is retransmitted on hold
        self.track.stop()

    def resume(self) -> None:
        """Send, from a key frame on. Does nothing if not on hold."""
        if not self._resumed.is_set():
            self.track.open()
            self._resumed.set()

    async def _start(self, parameters: RTCRtpSendParameters) -> None:
        """Apply the negotiated parameters. Replaces the engine's ``send``, which starts the sender.

        Hook: the engine ignores all parameters but the first.
        """
        extensions = {extension.uri: extension.id for extension in parameters.headerExtensions}
        self._header = HeaderWriter(extensions, parameters.muxId)
        codec, previous = parameters.codecs[0], self._codec
        assert codec.payloadType is not None
        self._codec, self._payload_type, self._clock_rate = codec, codec.payloadType, codec.clockRate
        had_rtx = self._rtx_payload_type is not None
        self._rtx_payload_type = None
        for other in parameters.codecs:
            if is_rtx(other) and other.parameters.get("apt") == codec.payloadType:
                self._rtx_payload_type = other.payloadType
        if had_rtx != (self._rtx_payload_type is not None):
            self._history = [None] * HISTORY_SIZE  # its entries depend on RTX
        is_same = previous is not None and (codec.name, codec.parameters) == (previous.name, previous.parameters)
        if self._sending and not is_same:
            self._start_track()
        await self._engine_send(parameters)

    async def _run(self, codec: RTCRtpCodecParameters) -> None:
        """Send frames until the connection closes. Replaces the engine's loop of the same name.

        Like the engine's, it sets two events and ends when it is cancelled.
        """
        self._engine._RTCRtpSender__rtp_started.set()
        try:
            while True:
                await self._resumed.wait()
                holds = self._holds
                self._start_track()
                try:
                    await self._send_frames()
                except StopAsyncIteration:
                    if holds == self._holds:
                        return  # the source has ended for good
                finally:
                    self._sending = False
        except (asyncio.CancelledError, ConnectionError):
            pass  # the connection has ended
        except Exception:
            log.exception("a sender failed")
        finally:
            self.track.stop()
            self._engine._RTCRtpSender__rtp_exited.set()

    def _start_track(self) -> None:
        """Start the track with the negotiated codec, also if it is started with another one."""
        assert self._codec is not None
        profile = self._codec.parameters.get("profile-level-id")
        mode = self._codec.parameters.get("packetization-mode")
        self._sending = True
        self.track.start(
            ffmpeg_name(self._codec.name),
            None if profile is None else str(profile),
            1 if mode is None else int(mode),
            can_probe=self._rtx_payload_type is not None,
        )

    async def _send_frames(self) -> None:
        while True:
            if self._unsent_bytes():
                await asyncio.sleep(BLOCKED_POLL_INTERVAL)
                continue
            await self._send_frame(await self.track.get())
            if padding := self.track.probe_bitrate():
                await self._send_padding(padding)

    def _unsent_bytes(self) -> int:
        """Return the bytes that the socket has not accepted yet, because the local network is slower than the track.

        asyncio would buffer any number of packets, and they would arrive late. While the socket is blocked, frames
        wait in the track instead, which drops the oldest ones.
        """
        pair = self._engine.transport.transport._connection._nominated.get(1)
        size = getattr(pair and pair.protocol.transport, "get_write_buffer_size", None)  # none on a TURN transport
        return size() if size is not None else 0

    async def _send_frame(self, frame: OutgoingFrame) -> None:
        if frame.size != self._size:  # another encoding begins, and does not refer to the frames before it
            self._size = frame.size
            self._history = [None] * HISTORY_SIZE
        timestamp = (self._timestamp_offset + frame.timestamp) & 0xFFFFFFFF
        count, ssrc, payload_type = len(frame.payloads), self._engine._ssrc, self._payload_type
        for begin in range(0, count, MAX_BURST):
            if begin:
                await asyncio.sleep(0)
            extension, send = self._header.extension(time.time()), self._send_function()
            protect, keeps_payload = self._engine.transport._tx_srtp.protect, self._rtx_payload_type is not None
            for n, payload in enumerate(frame.payloads[begin : begin + MAX_BURST], begin + 1):
                number, marker = self._sequence_number, n == count
                self._sequence_number = (number + 1) & 0xFFFF
                fixed = self._header.fixed(payload_type, marker, number, timestamp, ssrc)
                datagram = protect(fixed + extension + payload)
                kept = payload if keeps_payload else datagram
                self._history[number % HISTORY_SIZE] = (number, timestamp, marker, kept)
                if (sending := send(datagram)) is not None:
                    await sending
        self._retransmission_budget = min(self._retransmission_budget + count * MAX_RETRANSMITTED, HISTORY_SIZE)
        # Sender reports (RFC 3550 6.4.1) map RTP timestamps to the capture time. With the time of sending, audio and
        # video would be out of sync, because encoding takes longer for video.
        age = media_time() - frame.timestamp / self._clock_rate
        self._engine._RTCRtpSender__ntp_timestamp = to_ntp(time.time() - age)
        self._engine._RTCRtpSender__rtp_timestamp = timestamp
        self._engine._RTCRtpSender__octet_count += frame.byte_count
        self._engine._RTCRtpSender__packet_count += count

    def _send_function(self) -> Callable[[bytes], Awaitable[None] | None]:
        """Return the function that sends a protected datagram over the selected candidate pair.

        Hook: the engine's own is five coroutines deep, more work than encryption. On a UDP socket, datagrams are sent
        directly. On a TURN transport the engine's function is used. Without a candidate pair, datagrams are dropped:
        the path has ended, and an ICE restart is about to replace it.

        Raises:
            ConnectionError: the transport is not connected.
        """
        dtls = self._engine.transport
        pair = dtls.transport._connection._nominated.get(1)
        if dtls._state is not State.CONNECTED:
            raise ConnectionError("the transport is closed")
        if pair is None:
            return lambda datagram: None
        if not hasattr(pair.protocol.transport, "max_size"):  # an attribute of asyncio's UDP sockets
            return cast(Callable[[bytes], Awaitable[None]], dtls.transport._send)
        sendto, address = pair.protocol.transport.sendto, pair.remote_addr
        return lambda datagram: sendto(datagram, address)

    # --- retransmission and padding ---

    async def _retransmit(self, sequence_number: int) -> None:
        """Retransmit a packet after a NACK. Replaces the engine's method of the same name."""
        packet = self._history[sequence_number % HISTORY_SIZE]
        if packet is None or packet[0] != sequence_number or not self.track.allow_retransmission(sequence_number):
            return
        if self._retransmission_budget < 1:
            return
        self._retransmission_budget -= 1
        self.retransmitted += 1
        try:
            await self._send_again(packet)
        except ConnectionError:
            pass  # raising would end the engine's RTCP task

    async def _send_again(self, packet: SentPacket) -> int:
        """Send a packet again: as RTX (RFC 4588) if it is negotiated, otherwise the same datagram. Return its size.

        Raises:
            ConnectionError: the transport is not connected.
        """
        send = self._send_function()
        original, timestamp, marker, data = packet
        if self._rtx_payload_type is not None:
            number = self._rtx_sequence_number
            self._rtx_sequence_number = (number + 1) & 0xFFFF
            fixed = self._header.fixed(self._rtx_payload_type, marker, number, timestamp, self._engine._rtx_ssrc)
            rtx = fixed + self._header.extension(time.time()) + original.to_bytes(2, "big") + data
            data = self._engine.transport._tx_srtp.protect(rtx)
        if (sending := send(data)) is not None:
            await sending
        return len(data)

    async def _send_padding(self, bitrate: int) -> None:
        """Send recent packets again, at ``bitrate`` bit/s, to probe for bandwidth.

        libwebrtc pads in the same way. A receiver drops the duplicates and counts them in its estimate.
        """
        now = time.monotonic()
        due = bitrate / 8 * (now - self._padded_at) + self._padding_due
        self._padding_due = min(due, bitrate / 8 * MAX_PADDING_BURST)
        self._padded_at = now
        recent = (self._history[(self._sequence_number - back) % HISTORY_SIZE] for back in range(1, MAX_BURST + 1))
        for packet in recent:
            if packet is None or self._padding_due <= 0:
                return
            self._padding_due -= await self._send_again(packet)

    # --- feedback of the receiver ---

    async def _handle_rtcp(self, packet: Any) -> None:
        """Pass reports and bandwidth estimates (REMB) to the track."""
        await self._engine_handle_rtcp(packet)
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._engine._ssrc:
                    self.track.add_report(report.fraction_lost / 256, self._rtt(report.lsr, report.dlsr))
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            try:
                bitrate, ssrcs = unpack_remb_fci(packet.fci)
            except ValueError:
                return
            if self._engine._ssrc in ssrcs:
                self.track.set_estimate(bitrate)

    async def _send_rtcp(self, packets: list[Any]) -> None:
        """Record the send time of sender reports. The engine records wall-clock time, which may be set in the
        meantime."""
        for packet in packets:
            if isinstance(packet, RtcpSrPacket):
                lsr = packet.sender_info.ntp_timestamp >> 16 & 0xFFFFFFFF
                is_repeated = lsr in self._sender_reports  # no frame was sent in between
                self._sender_reports[lsr] = None if is_repeated else time.monotonic()
                while len(self._sender_reports) > MAX_SENDER_REPORTS:
                    del self._sender_reports[next(iter(self._sender_reports))]
        await self._engine_send_rtcp(packets)

    def _rtt(self, lsr: int, dlsr: int) -> float | None:
        """Return the RTT of one report in seconds (RFC 3550 6.4.1). The engine smooths its own over many seconds.

        ``None`` if the report is not about one of our last sender reports, or its delay is impossible.
        """
        sent_at = self._sender_reports.get(lsr)
        if not dlsr or sent_at is None:
            return None
        rtt = time.monotonic() - sent_at - dlsr / 65536
        return rtt if rtt > 0 else None
