"""One sender of the engine, connected with what one call sends: packets that were made once for all calls.

Like ``engine``, a home of hooks into the engine's private parts; each says what the engine does without it and has
a contract test in ``tests/test_sending.py``. May be imported by ``connection`` only.
"""

from __future__ import annotations

import asyncio
import logging
import random
import struct
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final, cast

from aiortc import RTCRtpSender
from aiortc.codecs import is_rtx
from aiortc.rtcrtpparameters import RTCRtpCodecParameters, RTCRtpSendParameters
from aiortc.rtp import RTCP_PSFB_APP, RtcpPsfbPacket, RtcpRrPacket, RtcpSrPacket, unpack_remb_fci

from .media.frames import OutgoingFrame, media_time
from .media.outgoing import Outgoing

log = logging.getLogger(__name__)

HISTORY: Final = 1024
"""Packets kept to be sent again: three seconds of 720p. The engine keeps 128, less than a large key frame and its
round trip."""

BURST: Final = 16
"""Packets after which others have their turn: a key frame for 16 viewers would hold the event loop for 50 ms."""

NTP_EPOCH: Final = 2_208_988_800
"""Seconds from 1900 (NTP, RFC 5905) to 1970 (Unix)."""

_MID: Final = "urn:ietf:params:rtp-hdrext:sdes:mid"
_SEND_TIME: Final = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"

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


@dataclass(slots=True)
class _Sent:
    """A packet that may be asked for again."""

    sequence_number: int
    timestamp: int
    marker: bool
    payload: bytes


class _Header:
    """RTP headers of one stream (RFC 3550 5.1) with its extensions in the one-byte form (RFC 8285 4.2).

    All of it stays the same but sequence number, timestamp, marker and the time of sending.
    """

    def __init__(self, parameters: RTCRtpSendParameters) -> None:
        ids = {extension.uri: extension.id for extension in parameters.headerExtensions}
        fixed = b""
        if _MID in ids and parameters.muxId:
            mid = parameters.muxId.encode()
            fixed += bytes([ids[_MID] << 4 | len(mid) - 1]) + mid
        self._timed = _SEND_TIME in ids
        if self._timed:
            fixed += bytes([ids[_SEND_TIME] << 4 | 2])
        length = len(fixed) + (3 if self._timed else 0)
        self._padding = bytes(-length % 4)
        self._extension = struct.pack("!HH", 0xBEDE, (length + 3) // 4) + fixed if length else b""
        self._first = 0x90 if self._extension else 0x80

    def make(self, payload_type: int, marker: bool, sequence_number: int, timestamp: int, ssrc: int) -> bytes:
        head = struct.pack(
            "!BBHLL", self._first, marker << 7 | payload_type, sequence_number, timestamp & 0xFFFFFFFF, ssrc
        )
        if not self._timed:
            return head + self._extension + self._padding
        # abs-send-time: the lower 6.18 bits of NTP's seconds
        now = int((time.time() + NTP_EPOCH) * (1 << 18)) & 0xFFFFFF
        return head + self._extension + now.to_bytes(3, "big") + self._padding


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
        for name in (
            "rtp_started",
            "rtp_exited",
            "ntp_timestamp",
            "rtp_timestamp",
            "octet_count",
            "packet_count",
            "lsr",
            "lsr_time",
        ):
            assert hasattr(sender, f"_RTCRtpSender__{name}"), f"the engine has no {name} any more"
        self._send, self._engine.send = self._engine.send, self._started
        self._handle_rtcp, self._engine._handle_rtcp_packet = self._engine._handle_rtcp_packet, self._rtcp
        self._engine._run_rtp = self._run
        self._engine._retransmit = self._retransmit
        self._engine._send_keyframe = media.request_key_frame
        self._history: OrderedDict[int, _Sent] = OrderedDict()
        self._sequence_number = random.getrandbits(15)  # in the lower half: SRTP's roll-over count starts at zero
        self._rtx_sequence_number = random.getrandbits(15)
        self._origin = random.getrandbits(32)
        self._rtx_payload_type: int | None = None
        self._payload_type = 0
        self._clock_rate = 90_000
        self._header: _Header | None = None

    async def _started(self, parameters: RTCRtpSendParameters) -> None:
        if self._header is None:
            self._header = _Header(parameters)
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
            self.media.start(_CODECS[codec.name.lower()], None if profile is None else str(profile))
            while True:
                await self._send_frame(await self.media.get())
        except (asyncio.CancelledError, ConnectionError, StopAsyncIteration):
            pass  # the connection is over, one way or another
        except Exception:
            log.exception("a sender failed")
        finally:
            self.media.stop()
            self._engine._RTCRtpSender__rtp_exited.set()

    async def _send_frame(self, frame: OutgoingFrame) -> None:
        timestamp = (self._origin + frame.timestamp) & 0xFFFFFFFF
        last = len(frame.payloads) - 1
        for n, payload in enumerate(frame.payloads):
            sent = _Sent(self._sequence_number, timestamp, n == last, payload)
            self._sequence_number = (self._sequence_number + 1) & 0xFFFF
            self._history[sent.sequence_number] = sent
            if len(self._history) > HISTORY:
                self._history.popitem(last=False)
            await self._send_packet(self._payload_type, sent.sequence_number, sent, payload, self._engine._ssrc)
            if n % BURST == BURST - 1:
                await asyncio.sleep(0)
        # What the engine's sender reports tell (RFC 3550 6.4.1): when this was seen or heard, not when it was sent.
        # Encoding a picture takes longer than encoding sound, by which a receiver would put them out of step.
        age = media_time() - frame.timestamp / self._clock_rate
        self._engine._RTCRtpSender__ntp_timestamp = round((time.time() + NTP_EPOCH - age) * (1 << 32))
        self._engine._RTCRtpSender__rtp_timestamp = timestamp
        self._engine._RTCRtpSender__octet_count += frame.octets
        self._engine._RTCRtpSender__packet_count += last + 1

    async def _send_packet(self, payload_type: int, number: int, sent: _Sent, payload: bytes, ssrc: int) -> None:
        assert self._header is not None
        head = self._header.make(payload_type, sent.marker, number, sent.timestamp, ssrc)
        await self._engine.transport._send_rtp(head + payload)

    async def _retransmit(self, sequence_number: int) -> None:
        """Send a packet again that was reported lost, as RTX (RFC 4588) if that was negotiated."""
        sent = self._history.get(sequence_number)
        if sent is None:
            return
        self.retransmitted += 1
        if self._rtx_payload_type is None:
            await self._send_packet(self._payload_type, sequence_number, sent, sent.payload, self._engine._ssrc)
            return
        number, self._rtx_sequence_number = self._rtx_sequence_number, (self._rtx_sequence_number + 1) & 0xFFFF
        original = sequence_number.to_bytes(2, "big")
        await self._send_packet(self._rtx_payload_type, number, sent, original + sent.payload, self._engine._rtx_ssrc)

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
