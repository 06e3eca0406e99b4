"""One sender of the engine, connected with what one call sends: packets that were made once for all calls.

Like ``engine``, a home of hooks into the engine's private parts; each says what the engine does without it and has
a contract test in ``tests/rtc/test_sender.py``. May be imported by ``connection`` only.
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

from ..media.frames import OutgoingFrame, media_time
from ..media.outgoing.track import Outgoing
from ..rtp.header import NTP_EPOCH, HeaderWriter

log = logging.getLogger(__name__)

HISTORY: Final = 1024
"""Packets kept to be sent again: three seconds of 720p. The engine keeps 128, less than a large key frame and its
round trip."""

BURST: Final = 16
"""Packets after which others have their turn: a key frame for 16 viewers would hold the event loop for 50 ms."""

FULL_POLL: Final = 0.01
"""Seconds between two looks whether the system takes packets again."""

REPEATS: Final = 0.5
"""Packets that may be sent again for one that was sent: who asks for more does not mean to watch."""

PADDING: Final = 0.1
"""Seconds of padding at most that are sent at once, after a pause."""

_CODECS: Final = {
    "vp8": "vp8",
    "h264": "h264",
    "opus": "opus",
    "pcmu": "pcm_mulaw",
    "pcma": "pcm_alaw",
    "g722": "g722",
}
"""FFmpeg's names by SDP's."""


_USED: Final = (
    *("rtp_started", "rtp_exited", "ntp_timestamp", "rtp_timestamp", "octet_count", "packet_count"),
    *("lsr", "lsr_time"),
)
"""Private attributes of the engine's sender."""


Kept = tuple[int, int, bool, bytes]
"""A packet that may be asked for again: sequence number, timestamp, marker, payload."""


class Sending:
    """Connects ``sender``, before it starts, with ``media``, which it starts and stops.

    Hook: the engine reads frames and encodes them, each sender for itself: 720p30 in VP8 takes 29% of a core for one
    viewer and 177% for eight. Its loop is replaced by one that sends packets which are there already. Requests for
    key frames and estimates of bandwidth, which would go to the encoder that is not there, go to ``media``.
    """

    def __init__(self, sender: RTCRtpSender, media: Outgoing) -> None:
        self.sender = sender
        self.media = media
        self.retransmitted = 0
        """Packets that were asked for again and sent again."""
        self._engine = cast(Any, sender)
        for name in _USED:
            assert hasattr(sender, f"_RTCRtpSender__{name}"), f"the engine has no {name} any more"
        self._send, self._engine.send = self._engine.send, self._started
        self._handle_rtcp, self._engine._handle_rtcp_packet = self._engine._handle_rtcp_packet, self._rtcp
        self._engine._run_rtp = self._run
        self._engine._retransmit = self._retransmit
        self._engine._send_keyframe = media.request_key_frame
        self._history: list[Kept | None] = [None] * HISTORY
        self._allowance = 0.0
        self._padded_at = 0.0
        self._size: tuple[int, int] | None = None
        self._sequence_number = random.getrandbits(15)  # in the lower half: SRTP's roll-over count starts at zero
        self._rtx_sequence_number = random.getrandbits(15)
        self._origin = random.getrandbits(32)
        self._rtx_payload_type: int | None = None
        self._payload_type = 0
        self._clock_rate = 90_000
        self._header = HeaderWriter({}, "")
        self._was_started = False

    async def _started(self, parameters: RTCRtpSendParameters) -> None:
        if not self._was_started:
            self._was_started = True
            extensions = {extension.uri: extension.id for extension in parameters.headerExtensions}
            self._header = HeaderWriter(extensions, parameters.muxId)
            codec = parameters.codecs[0]
            assert codec.payloadType is not None
            self._payload_type, self._clock_rate = codec.payloadType, codec.clockRate
            for other in parameters.codecs:
                if is_rtx(other) and other.parameters.get("apt") == codec.payloadType:
                    self._rtx_payload_type = other.payloadType
        await self._send(parameters)

    async def _run(self, codec: RTCRtpCodecParameters) -> None:
        """In place of the engine's loop of the same name: it has to set two events, and to end when cancelled."""
        self._engine._RTCRtpSender__rtp_started.set()
        try:
            profile = codec.parameters.get("profile-level-id")
            self.media.start(
                _CODECS[codec.name.lower()],
                None if profile is None else str(profile),
                can_probe=self._rtx_payload_type is not None,
            )
            while True:
                if self._waiting():
                    await asyncio.sleep(FULL_POLL)
                    continue
                await self._send_frame(await self.media.get())
                if padding := self.media.padding():
                    await self._pad(padding)
        except (asyncio.CancelledError, ConnectionError, StopAsyncIteration):
            pass  # the connection is over, one way or another
        except Exception:
            log.exception("a sender failed")
        finally:
            self.media.stop()
            self._engine._RTCRtpSender__rtp_exited.set()

    def _waiting(self) -> int:
        """Octets that the system did not take yet: the network of this machine is slower than what we send.

        asyncio keeps them, as many as there are. Where they wait for nothing but their turn they are late; what comes
        next waits in ``media``, which drops the oldest.
        """
        pair = self._engine.transport.transport._connection._nominated.get(1)
        size = getattr(pair and pair.protocol.transport, "get_write_buffer_size", None)  # a relay's has none
        return size() if size is not None else 0

    async def _send_frame(self, frame: OutgoingFrame) -> None:
        if frame.size != self._size:  # another coding begins: it needs nothing of the one before
            self._size = frame.size
            self._history = [None] * HISTORY
        timestamp = (self._origin + frame.timestamp) & 0xFFFFFFFF
        count, ssrc = len(frame.payloads), self._engine._ssrc
        for begin in range(0, count, BURST):
            if begin:
                await asyncio.sleep(0)
            extension, send = self._header.extension(time.time()), self._way()
            for n, payload in enumerate(frame.payloads[begin : begin + BURST], begin + 1):
                number, marker = self._sequence_number, n == count
                self._sequence_number = (number + 1) & 0xFFFF
                self._history[number % HISTORY] = (number, timestamp, marker, payload)
                packet = self._header.fixed(self._payload_type, marker, number, timestamp, ssrc) + extension + payload
                if (waiting := send(packet)) is not None:
                    await waiting
        self._allowance = min(self._allowance + count * REPEATS, HISTORY)
        # What the engine's sender reports tell (RFC 3550 6.4.1): when this was seen or heard, not when it was sent.
        # Encoding a picture takes longer than encoding sound, by which a receiver would put them out of step.
        age = media_time() - frame.timestamp / self._clock_rate
        self._engine._RTCRtpSender__ntp_timestamp = round((time.time() + NTP_EPOCH - age) * (1 << 32))
        self._engine._RTCRtpSender__rtp_timestamp = timestamp
        self._engine._RTCRtpSender__octet_count += frame.byte_count
        self._engine._RTCRtpSender__packet_count += count

    def _way(self) -> Callable[[bytes], Awaitable[None] | None]:
        """How packets leave, right now.

        Hook: the engine's way is five coroutines deep, more work than encryption. Where the selected pair of
        candidates is a plain socket, packets are encrypted and given to it; a relay's (TURN) go the engine's way.

        Raises:
            ConnectionError: the transport is not connected, or not any more.
        """
        dtls = self._engine.transport
        pair = dtls.transport._connection._nominated.get(1)
        if dtls._state is not State.CONNECTED or pair is None:
            raise ConnectionError("the transport is closed")
        if not hasattr(pair.protocol.transport, "max_size"):  # what a socket of asyncio's has
            return cast(Callable[[bytes], Awaitable[None]], dtls._send_rtp)
        protect, sendto, address = dtls._tx_srtp.protect, pair.protocol.transport.sendto, pair.remote_addr

        def send(packet: bytes) -> None:
            sendto(protect(packet), address)

        return send

    async def _retransmit(self, sequence_number: int) -> None:
        """Send a packet again that was reported lost, as RTX (RFC 4588) if that was negotiated."""
        kept = self._history[sequence_number % HISTORY]
        if kept is None or kept[0] != sequence_number or not self.media.missed(sequence_number):
            return
        if self._allowance < 1:
            return
        self._allowance -= 1
        self.retransmitted += 1
        try:
            await self._send_again(kept)
        except ConnectionError:
            pass  # the engine's task that reads reports must live on

    async def _send_again(self, kept: Kept) -> int:
        """Returns the octets it took. Raises ``ConnectionError``."""
        sequence_number, timestamp, marker, payload = kept
        payload_type, ssrc = self._payload_type, self._engine._ssrc
        if self._rtx_payload_type is not None:
            payload_type, ssrc = self._rtx_payload_type, self._engine._rtx_ssrc
            payload = sequence_number.to_bytes(2, "big") + payload
            sequence_number = self._rtx_sequence_number
            self._rtx_sequence_number = (sequence_number + 1) & 0xFFFF
        head = self._header.fixed(payload_type, marker, sequence_number, timestamp, ssrc)
        packet = head + self._header.extension(time.time()) + payload
        if (waiting := self._way()(packet)) is not None:
            await waiting
        return len(packet)

    async def _pad(self, rate: int) -> None:
        """Send packets once more that were sent already, ``rate`` bit/s of them, to see whether they get through. It
        is what libwebrtc pads with: a receiver throws it away, and counts it into its estimate."""
        now = time.monotonic()
        due = rate / 8 * min(now - self._padded_at, PADDING)
        self._padded_at = now
        recent = (self._history[(self._sequence_number - back) % HISTORY] for back in range(1, BURST + 1))
        for kept in recent:
            if kept is None or due <= 0:
                return
            due -= await self._send_again(kept)

    async def _rtcp(self, packet: Any) -> None:
        await self._handle_rtcp(packet)
        if isinstance(packet, RtcpRrPacket | RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == self._engine._ssrc:
                    self.media.report(report.fraction_lost / 256, self._round_trip(report.lsr, report.dlsr))
        elif isinstance(packet, RtcpPsfbPacket) and packet.fmt == RTCP_PSFB_APP:
            try:
                bitrate, ssrcs = unpack_remb_fci(packet.fci)
            except ValueError:
                return
            if self._engine._ssrc in ssrcs:
                self.media.estimate(bitrate)

    def _round_trip(self, lsr: int, dlsr: int) -> float | None:
        """Seconds (RFC 3550 6.4.1); the engine's own figure is smoothed over many seconds."""
        if not dlsr or lsr != self._engine._RTCRtpSender__lsr:
            return None
        return max(0.0, time.time() - cast(float, self._engine._RTCRtpSender__lsr_time) - dlsr / 65536)
