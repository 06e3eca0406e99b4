"""Contracts with the engine's sender: each hooked private part exists, and the hook has its effect.

If one of these tests fails after an upgrade, read ``peer/rtc/sender.py`` first. Plain aiortc receives.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import av
import numpy as np
import pytest
from aiortc import RTCPeerConnection, RTCRtpSender
from aiortc.rtp import RtcpPsfbPacket, RtpPacket

from peer.media.fanout import Fanout
from peer.media.frames import (
    AUDIO_FRAME_SAMPLES,
    AUDIO_RATE,
    AUDIO_TIME_BASE,
    VIDEO_TIME_BASE,
    OutgoingFrame,
    media_time,
)
from peer.media.outgoing.audio_track import OutgoingAudio
from peer.media.outgoing.shared import SharedAudio, SharedVideo
from peer.media.outgoing.track import Outgoing, OutgoingVideo
from peer.media.test_pattern import Pattern, read_pattern
from peer.rtc import aiortc_hooks
from peer.rtc.sender import Sender
from peer.rtp.header import ABS_SEND_TIME, MID, HeaderWriter
from peer.rtp.ntp import NTP_EPOCH, from_ntp
from peer.rtp.packetizer import MAX_PAYLOAD
from tests.rtc.loopback import ice_connection
from tests.waiting import until

SIZE = (320, 240)


class Loopback:
    """``far`` sends a test pattern and a constant sound with our sender; ``near`` is plain aiortc."""

    def __init__(self, tasks: asyncio.TaskGroup, kind: str, near: RTCPeerConnection, far: RTCPeerConnection) -> None:
        self.near, self.far = near, far
        self.video_frames: Fanout[av.VideoFrame] = Fanout()
        self.audio_frames: Fanout[av.AudioFrame] = Fanout()
        self.track: Outgoing = (
            OutgoingVideo(SharedVideo(tasks, self.video_frames, size=SIZE))
            if kind == "video"
            else OutgoingAudio(SharedAudio(tasks, self.audio_frames))
        )
        self.sender: Sender
        self.packets: list[RtpPacket] = []
        self.lose: Callable[[RtpPacket], bool] = lambda packet: False
        self._pattern = Pattern(*SIZE, 30)
        self.number = 0

    @property
    def receiver(self) -> Any:
        return self.near.getReceivers()[0]

    def feed(self) -> None:
        """Feed one video frame and 20 ms of audio."""
        self.number += 1
        frame = self._pattern.draw(self.number)
        frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        self.video_frames.put(frame)
        sound = av.AudioFrame.from_ndarray(np.full((1, 2 * AUDIO_FRAME_SAMPLES), 99, np.int16), "s16", "stereo")
        sound.pts, sound.time_base, sound.sample_rate = round(media_time() * AUDIO_RATE), AUDIO_TIME_BASE, AUDIO_RATE
        self.audio_frames.put(sound)

    async def feed_until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.feed()
                await asyncio.sleep(0.02)

    async def receive_frames(self, count: int) -> list[Any]:
        """Return ``count`` decoded frames of the remote."""
        frames: list[Any] = []

        async def read() -> None:
            while len(frames) < count:
                frames.append(await self.receiver.track.recv())

        reading = asyncio.ensure_future(read())
        await self.feed_until(reading.done)
        await reading
        return frames


def _without_tag(datagram: bytes) -> RtpPacket:
    """Parse a protected datagram. Its header is not encrypted, and the payload has the length of the plain one."""
    return RtpPacket.parse(datagram[:-16])  # the authentication tag of AES-GCM (RFC 7714 12)


@asynccontextmanager
async def loopback(
    kind: str = "video",
    codec: str = "vp8",
    rtx: bool = True,
    prepare: Callable[[Sender], None] = lambda sender: None,
    packetization_mode: str = "1",
) -> AsyncIterator[Loopback]:
    near, far = aiortc_hooks.open_peer_connection(), aiortc_hooks.open_peer_connection()
    async with asyncio.TaskGroup() as tasks:
        pair = Loopback(tasks, kind, near, far)
        transceiver = far.addTransceiver(kind, direction="sendonly")
        pair.sender = Sender(transceiver.sender, pair.track)
        prepare(pair.sender)
        pair.track.open()
        wanted = (codec, "rtx") if rtx else (codec,)
        known = [
            c
            for c in RTCRtpSender.getCapabilities(kind).codecs
            if c.name.lower() in wanted
            and c.parameters.get("packetization-mode", packetization_mode) == packetization_mode
        ]
        transceiver.setCodecPreferences(known)
        await far.setLocalDescription(await far.createOffer())
        await near.setRemoteDescription(far.localDescription)
        receiver = pair.receiver
        handle = receiver._handle_rtp_packet

        async def watch(packet: RtpPacket, arrival_time_ms: int) -> None:
            pair.packets.append(packet)
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = watch
        send_function = pair.sender._send_function

        def lossy_send_function() -> Callable[[bytes], Any]:
            send = send_function()
            return lambda datagram: None if pair.lose(_without_tag(datagram)) else send(datagram)

        pair.sender._send_function = lossy_send_function  # type: ignore[method-assign]
        await near.setLocalDescription(await near.createAnswer())
        await far.setRemoteDescription(near.localDescription)
        try:
            await until(lambda: near.connectionState == far.connectionState == "connected")
            yield pair
        finally:
            pair.track.stop()
            await asyncio.gather(aiortc_hooks.close(near), aiortc_hooks.close(far))


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_sent_video_is_decoded_by_the_engine(codec: str) -> None:
    async with loopback(codec=codec) as pair:
        decoded = await pair.receive_frames(10)
        numbers = [read_pattern(frame.to_ndarray(format="gray")) for frame in decoded]
        assert all(reading is not None for reading in numbers)
        assert (decoded[0].width, decoded[0].height) == SIZE


@pytest.mark.parametrize(("mode", "types"), [("0", {1, 5, 6, 7, 8}), ("1", {1, 24, 28})])
async def test_h264_is_sent_in_the_negotiated_mode(mode: str, types: set[int]) -> None:
    """Mode 0: each packet has one NAL unit (RFC 6184 6.2). Mode 1: aggregated or fragmented units as well."""
    async with loopback(codec="h264", packetization_mode=mode) as pair:
        decoded = await pair.receive_frames(10)
        assert all(read_pattern(frame.to_ndarray(format="gray")) for frame in decoded)
        payload_types = {packet.payload_type for packet in pair.packets}
        (codec,) = [c for c in pair.far.getTransceivers()[0]._codecs if c.payloadType in payload_types]
        assert codec.parameters["packetization-mode"] == mode
        assert {packet.payload[0] & 0x1F for packet in pair.packets} <= types
        assert max(len(packet.payload) for packet in pair.packets) <= MAX_PAYLOAD


@pytest.mark.parametrize("codec", ["opus", "pcmu", "g722"])
async def test_sent_audio_is_decoded_by_the_engine(codec: str) -> None:
    async with loopback("audio", codec) as pair:
        decoded = await pair.receive_frames(20)
        assert sum(frame.samples / frame.sample_rate for frame in decoded) == pytest.approx(0.4)


async def test_sent_packets_have_correct_headers() -> None:
    async with loopback() as pair:
        await pair.feed_until(lambda: sum(packet.marker for packet in pair.packets) > 5)
        transceiver = pair.far.getTransceivers()[0]
        packets = pair.packets
        assert {packet.ssrc for packet in packets} == {cast(Any, transceiver.sender)._ssrc}
        assert {packet.extensions.mid for packet in packets} == {transceiver.mid}
        assert all(packet.extensions.abs_send_time is not None for packet in packets)
        numbers = [packet.sequence_number for packet in packets]
        assert numbers == [(numbers[0] + n) & 0xFFFF for n in range(len(numbers))]
        by_frame: dict[int, list[int]] = {}
        for packet in packets:
            by_frame.setdefault(packet.timestamp, []).append(packet.marker)
        complete = list(by_frame.values())[:-1]
        assert all(marks == [0] * (len(marks) - 1) + [1] for marks in complete)


@pytest.mark.parametrize("kind", ["video", "audio"])
async def test_hold_sends_nothing_until_it_is_resumed(kind: str) -> None:
    async with loopback(kind, "vp8" if kind == "video" else "opus") as pair:
        await pair.feed_until(lambda: len(pair.packets) > 10)
        sources = (pair.video_frames, pair.audio_frames)
        pair.sender.hold()
        await until(lambda: all(source.readers == 0 for source in sources))
        await until(lambda: not pair.sender._sending)
        held, number = len(pair.packets), pair.number
        await pair.feed_until(lambda: pair.number > number + 20)
        assert len(pair.packets) <= held + 3  # those on their way
        last = pair.packets[-1]
        pair.sender.resume()
        pair.sender.resume()
        await pair.feed_until(lambda: len(pair.packets) > held + 20)
        resumed = pair.packets[pair.packets.index(last) + 1]
        assert resumed.sequence_number == (last.sequence_number + 1) & 0xFFFF
        assert 0 < (resumed.timestamp - last.timestamp) & 0xFFFFFFFF < 1 << 31
        if kind == "video":
            assert not resumed.payload[1] & 1  # a key frame (RFC 7741 4.3), behind a descriptor of one byte


async def test_hold_and_resume_at_once_starts_again() -> None:
    async with loopback() as pair:
        await pair.feed_until(lambda: len(pair.packets) > 10)
        pair.sender.hold()
        pair.sender.resume()
        count = len(pair.packets)
        await pair.feed_until(lambda: len(pair.packets) > count + 10)


async def test_sender_reports_have_the_capture_time() -> None:
    async with loopback() as pair:
        await pair.feed_until(lambda: pair.packets)
        sender = cast(Any, pair.sender.rtp_sender)
        await pair.feed_until(lambda: pair.sender._sender_reports)
        ntp = sender._RTCRtpSender__ntp_timestamp / (1 << 32) - 2_208_988_800
        taken = (sender._RTCRtpSender__rtp_timestamp - pair.sender._timestamp_offset & 0xFFFFFFFF) / 90_000
        assert time.time() - ntp == pytest.approx(media_time() - taken, abs=0.02)
        stats = await pair.far.getStats()
        sent = next(entry for entry in stats.values() if entry.type == "outbound-rtp")
        assert sent.packetsSent >= len(pair.packets) > 0 and sent.bytesSent > 0


def _start_before_the_wrap(sender: Sender) -> None:
    """Let sequence numbers wrap after 36 packets, and timestamps after a second."""
    sender._sequence_number = sender._rtx_sequence_number = 65_500
    sender._timestamp_offset = -round((media_time() + 1) * 90_000) & 0xFFFFFFFF


@pytest.mark.parametrize("rtx", [True, False])
async def test_sequence_number_wrap_costs_no_packet(rtx: bool) -> None:
    """SRTP's roll-over counter then is 1 for new packets, and 0 for retransmissions of older ones."""
    async with loopback(rtx=rtx, prepare=_start_before_the_wrap) as pair:
        ssrc = cast(Any, pair.sender.rtp_sender)._ssrc
        lost: list[int] = []

        def lose(packet: RtpPacket) -> bool:
            number = packet.sequence_number
            if packet.ssrc != ssrc or number in lost or number not in (65_534, 65_535, 0, 1):
                return False
            lost.append(number)
            return True

        pair.lose = lose
        await pair.feed_until(lambda: len(lost) == 4 and pair.sender.retransmitted >= 4)
        assert len(await pair.receive_frames(20)) == 20
        assert pair.sender._sequence_number < 32_768


async def test_timestamp_wrap_keeps_the_capture_time() -> None:
    async with loopback(prepare=_start_before_the_wrap) as pair:
        await pair.feed_until(lambda: pair.packets and pair.packets[-1].timestamp < 1 << 31)
        assert pair.packets[0].timestamp > 1 << 31
        assert len(await pair.receive_frames(20)) == 20
        stamps = [packet.timestamp for packet in pair.packets]
        assert all((later - earlier) & 0xFFFFFFFF < 90_000 * 5 for earlier, later in itertools.pairwise(stamps))
        sender = cast(Any, pair.sender.rtp_sender)
        ntp = from_ntp(sender._RTCRtpSender__ntp_timestamp, time.time())
        taken = (sender._RTCRtpSender__rtp_timestamp - pair.sender._timestamp_offset & 0xFFFFFFFF) / 90_000
        assert time.time() - ntp == pytest.approx(media_time() - taken, abs=0.02)


async def test_sender_report_clock_wrap_keeps_reports_and_rtt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of an era of NTP timestamps, and of the 18.2 h after which their middle 32 bits wrap."""
    rtts: list[float | None] = []
    monkeypatch.setattr(OutgoingVideo, "add_report", lambda self, loss, rtt: rtts.append(rtt))
    real = time.time
    shift = (1 << 32) - NTP_EPOCH - real() - 4.0
    monkeypatch.setattr(time, "time", lambda: real() + shift)
    async with loopback() as pair:
        reports = pair.sender._sender_reports
        await pair.feed_until(lambda: any(lsr >> 16 > 0xFFF0 for lsr in reports))
        await pair.feed_until(lambda: any(lsr >> 16 < 0xF for lsr in reports))
        rtts.clear()
        await pair.feed_until(lambda: any(rtt is not None for rtt in rtts))
        assert all(rtt < 5 for rtt in rtts if rtt is not None)


@pytest.mark.parametrize("rtx", [True, False])
async def test_lost_packets_are_retransmitted(rtx: bool) -> None:
    async with loopback(rtx=rtx) as pair:
        await pair.receive_frames(3)
        lost: list[int] = []
        ssrc = cast(Any, pair.sender.rtp_sender)._ssrc

        def lose(packet: RtpPacket) -> bool:
            """Lose three packets, but not their retransmissions."""
            number = packet.sequence_number
            if packet.ssrc != ssrc or len(lost) == 3 or number % 4 or number in lost:
                return False
            lost.append(number)
            return True

        pair.lose = lose
        await pair.feed_until(lambda: pair.sender.retransmitted >= 3)
        pair.lose = lambda packet: False
        assert len(await pair.receive_frames(10)) == 10


@pytest.mark.parametrize("kind", ["video", "audio"])
@pytest.mark.parametrize("over_turn", [False, True])
async def test_retransmission_without_rtx_is_byte_identical(
    kind: str, over_turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise two packets are encrypted under one nonce of AES-GCM."""
    async with loopback(kind, "vp8" if kind == "video" else "opus", rtx=False) as pair:
        await pair.receive_frames(2)
        datagrams: dict[int, list[bytes]] = {}
        protocol = ice_connection(pair.far)._nominated[1].protocol
        send = protocol.transport.sendto

        def record(data: bytes, address: Any) -> None:
            packet = RtpPacket.parse(data) if 127 < data[0] < 192 and not 192 <= data[1] <= 223 else None
            if packet is not None:
                datagrams.setdefault(packet.sequence_number, []).append(data)
            send(data, address)

        recording = _BlockedSocket(protocol.transport)
        recording.unsent_bytes = 0
        monkeypatch.setattr(recording, "sendto", record)
        monkeypatch.setattr(protocol, "transport", _TurnTransport(recording) if over_turn else recording)
        await pair.feed_until(lambda: len(datagrams) > 10)
        for number in list(datagrams):
            await pair.sender._retransmit(number)
        repeated = [sent for sent in datagrams.values() if len(sent) > 1]
        assert len(repeated) > 3
        assert all(len(set(sent)) == 1 for sent in repeated)


async def test_rtx_packets_have_sequence_numbers_of_their_own() -> None:
    """One packet that is retransmitted twice is never encrypted twice under one nonce."""
    async with loopback() as pair:
        await pair.receive_frames(3)
        rtx_ssrc = cast(Any, pair.sender.rtp_sender)._rtx_ssrc
        numbers: list[int] = []

        def record(packet: RtpPacket) -> bool:
            if packet.ssrc == rtx_ssrc:
                numbers.append(packet.sequence_number)
            return False

        pair.lose = record
        for _ in range(2):
            await pair.sender._retransmit(pair.sender._sequence_number - 1)
        assert len(set(numbers)) == len(numbers) == 2


async def test_retransmissions_are_limited_by_their_budget() -> None:
    async with loopback() as pair:
        await pair.receive_frames(5)
        sent = pair.sender._engine._RTCRtpSender__packet_count
        for number in [packet[0] for packet in pair.sender._history if packet is not None] * 20:
            await pair.sender._retransmit(number)
        assert 0 < pair.sender.retransmitted <= sent
        await pair.sender._retransmit(pair.sender._sequence_number + 5)  # never sent


async def test_padding_repeats_packets_and_the_engine_drops_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with loopback() as pair:
        await pair.receive_frames(3)
        sender = cast(Any, pair.sender.rtp_sender)
        padding: list[int] = []
        pair.lose = lambda packet: packet.ssrc == sender._rtx_ssrc and padding.append(len(packet.payload)) is not None
        monkeypatch.setattr(OutgoingVideo, "probe_bitrate", lambda self: 400_000)
        begun, began = pair.sender.retransmitted, time.monotonic()
        await pair.feed_until(lambda: len(padding) > 30)
        assert sum(padding) * 8 <= 400_000 * (time.monotonic() - began + 0.1) + 1200 * 8, "one packet more at most"
        assert pair.sender.retransmitted == begun, "there was no NACK"
        decoded = [read_pattern(frame.to_ndarray(format="gray")) for frame in await pair.receive_frames(10)]
        assert None not in decoded


async def test_sender_without_rtx_does_not_pad() -> None:
    async with loopback(rtx=False) as pair:
        await pair.receive_frames(1)
        assert isinstance(pair.track, OutgoingVideo) and pair.track._selector is not None
        assert not pair.track._selector._can_probe


async def test_change_of_size_clears_the_retransmission_history() -> None:
    async with loopback() as pair:
        await pair.receive_frames(2)
        number = pair.sender._sequence_number
        assert pair.sender._history[(number - 1) % 1024] is not None
        await pair.sender._send_frame(OutgoingFrame((b"\x10" + bytes(20),), 10_000_000, True, (160, 120)))
        assert [packet[0] for packet in pair.sender._history if packet is not None] == [number]


async def test_packets_over_turn_use_the_engines_function(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback() as pair:
        await pair.receive_frames(1)
        transport = cast(Any, pair.sender.rtp_sender.transport)
        nominated = transport.transport._connection._nominated[1]
        passed: list[int] = []
        send = transport.transport._send

        async def watched(data: bytes) -> None:
            passed.append(len(data))
            await send(data)

        monkeypatch.setattr(transport.transport, "_send", watched)
        monkeypatch.setattr(nominated.protocol, "transport", _TurnTransport(nominated.protocol.transport))
        await pair.feed_until(lambda: len(passed) > 3)


class _TurnTransport:
    """A transport that sends as aioice's for TURN does, without the attributes of an asyncio socket."""

    def __init__(self, transport: Any) -> None:
        self.sendto, self.close = transport.sendto, transport.close


class _BlockedSocket:
    """A socket that reports unsent bytes, and counts how often it is asked for them."""

    unsent_bytes = 1200

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.close, self.max_size = transport.close, transport.max_size
        self.checks = 0

    def sendto(self, data: bytes, address: Any) -> None:
        self._transport.sendto(data, address)

    def get_write_buffer_size(self) -> int:
        self.checks += 1
        return self.unsent_bytes


async def test_packets_fit_the_minimum_mtu_of_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Including IPv6 and UDP (48 bytes) and a TURN channel (4), and for retransmissions too."""
    async with loopback() as pair:
        await pair.receive_frames(1)
        protocol = ice_connection(pair.far)._nominated[1].protocol
        sizes: list[int] = []
        send = protocol.transport.sendto

        class Measured(_BlockedSocket):
            unsent_bytes = 0

            def sendto(self, data: bytes, address: Any) -> None:
                sizes.append(len(data))
                send(data, address)

        monkeypatch.setattr(protocol, "transport", Measured(protocol.transport))
        pair.sender._header = HeaderWriter({MID: 1, ABS_SEND_TIME: 2}, "a-mid-16-bytes!!")
        await pair.feed_until(lambda: max(sizes, default=0) > 1170)
        for packet in pair.sender._history:
            if packet is not None:
                await pair.sender._retransmit(packet[0])
        assert 1170 < max(sizes) <= 1280 - 48 - 4


async def test_blocked_socket_gets_no_packets_and_then_new_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with loopback() as pair:
        await pair.receive_frames(3)
        blocked = _BlockedSocket(ice_connection(pair.far)._nominated[1].protocol.transport)
        monkeypatch.setattr(ice_connection(pair.far)._nominated[1].protocol, "transport", blocked)
        await pair.feed_until(lambda: blocked.checks > 5)
        sent = pair.sender._engine._RTCRtpSender__packet_count
        drawn = pair.number
        await pair.feed_until(lambda: pair.number > drawn + 70)
        assert pair.sender._engine._RTCRtpSender__packet_count <= sent + 16
        blocked.unsent_bytes = 0
        number = 0
        while number <= drawn + 70:
            decoded = read_pattern((await pair.receive_frames(1))[0].to_ndarray(format="gray"))
            number = decoded.frame if decoded is not None else number


async def test_pli_is_answered_with_a_key_frame() -> None:
    async with loopback() as pair:
        await pair.receive_frames(3)

        def keys() -> int:
            starts = [packet.payload for packet in pair.packets if packet.payload[:1] == b"\x10"]
            return sum(not payload[1] & 1 for payload in starts)

        before = keys()
        await pair.receiver._send_rtcp_pli(cast(Any, pair.sender.rtp_sender)._ssrc)
        await pair.feed_until(lambda: keys() > before)


async def test_reports_and_estimates_are_passed_to_the_track(monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[tuple[str, float, float | None]] = []
    monkeypatch.setattr(OutgoingVideo, "add_report", lambda self, loss, rtt: received.append(("report", loss, rtt)))
    monkeypatch.setattr(
        OutgoingVideo, "set_estimate", lambda self, bitrate: received.append(("estimate", bitrate, None))
    )
    async with loopback() as pair:
        await pair.feed_until(lambda: any(name == "report" and rtt is not None for name, _, rtt in received))
        assert all(loss == 0 for name, loss, _ in received if name == "report")
        assert all(0 <= rtt < 5 for _, _, rtt in received if rtt is not None)
        estimates = [bitrate for name, bitrate, _ in received if name == "estimate"]
        await pair.feed_until(lambda: estimates or any(name == "estimate" for name, _, _ in received))


async def test_rtt_is_measured_with_the_monotonic_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    async with loopback() as pair:
        await pair.feed_until(lambda: pair.sender._sender_reports)
        (lsr, sent_at), *_ = pair.sender._sender_reports.items()
        assert sent_at is not None
        monkeypatch.setattr(time, "time", lambda: 0.0)  # the wall clock is set
        elapsed = time.monotonic() - sent_at
        assert pair.sender._rtt(lsr, 1) == pytest.approx(elapsed, abs=0.1)
        assert pair.sender._rtt(lsr, 0) is None, "the viewer has received no sender report"
        assert pair.sender._rtt(lsr, int((elapsed + 5) * 65536)) is None, "a delay longer than the RTT"
        assert pair.sender._rtt(lsr ^ 1, 1) is None
        pair.sender._sender_reports[lsr] = None  # two sender reports had this timestamp
        assert pair.sender._rtt(lsr, 1) is None


async def test_malformed_remb_is_ignored() -> None:
    async with loopback() as pair:
        await pair.receive_frames(1)
        await pair.sender._handle_rtcp(RtcpPsfbPacket(fmt=15, ssrc=1, media_ssrc=2, fci=b"REMB"))
        await pair.receive_frames(1)


async def test_sender_ends_with_its_connection_and_closes_its_readers() -> None:
    async with loopback() as pair:
        await pair.receive_frames(1)
        assert pair.video_frames.readers == 2, "the encoder's, and the one that open() added"
        await pair.far.close()
        await until(lambda: pair.video_frames.readers == 0)


async def test_exception_of_a_track_does_not_end_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with loopback() as pair:
        await pair.receive_frames(1)

        async def broken(self: OutgoingVideo) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(OutgoingVideo, "get", broken)
        await pair.feed_until(lambda: "a sender failed" in caplog.text)
        assert pair.far.connectionState == "connected"
