"""The sender on the engine's connection, with the bare engine at the other end.."""

from __future__ import annotations

import asyncio
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
from peer.media.outgoing.shared import SharedAudio, SharedVideo
from peer.media.outgoing.track import Outgoing, OutgoingAudio, OutgoingVideo
from peer.media.test_pattern import Pattern, read_pattern
from peer.rtc import aiortc_hooks
from peer.rtc.sender import Sending
from peer.rtp.header import ABS_SEND_TIME, MID, HeaderWriter
from tests.waiting import until

SIZE = (320, 240)


class Wire:
    """``far`` sends by ``sending`` what is drawn; ``near`` is the engine as it is."""

    def __init__(self, tasks: asyncio.TaskGroup, kind: str, near: RTCPeerConnection, far: RTCPeerConnection) -> None:
        self.near, self.far = near, far
        self.pictures: Fanout[av.VideoFrame] = Fanout()
        self.sound: Fanout[av.AudioFrame] = Fanout()
        self.media: Outgoing = (
            OutgoingVideo(SharedVideo(tasks, self.pictures, size=SIZE))
            if kind == "video"
            else OutgoingAudio(SharedAudio(tasks, self.sound))
        )
        self.sending: Sending
        self.packets: list[RtpPacket] = []
        self.lose: Callable[[RtpPacket], bool] = lambda packet: False
        self._canvas = Pattern(*SIZE, 30)
        self._number = 0

    @property
    def receiver(self) -> Any:
        return self.near.getReceivers()[0]

    def feed(self) -> None:
        """One picture, and 20 ms of sound."""
        self._number += 1
        frame = self._canvas.draw(self._number)
        frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        self.pictures.put(frame)
        sound = av.AudioFrame.from_ndarray(np.full((1, 2 * AUDIO_FRAME_SAMPLES), 99, np.int16), "s16", "stereo")
        sound.pts, sound.time_base, sound.sample_rate = round(media_time() * AUDIO_RATE), AUDIO_TIME_BASE, AUDIO_RATE
        self.sound.put(sound)

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.feed()
                await asyncio.sleep(0.02)

    async def see(self, count: int) -> list[Any]:
        """Decoded frames at the other end."""
        seen: list[Any] = []

        async def read() -> None:
            while len(seen) < count:
                seen.append(await self.receiver.track.recv())

        reading = asyncio.ensure_future(read())
        await self.until(reading.done)
        await reading
        return seen


@asynccontextmanager
async def wire(kind: str = "video", codec: str = "vp8", rtx: bool = True) -> AsyncIterator[Wire]:
    near, far = aiortc_hooks.open_peer_connection(), aiortc_hooks.open_peer_connection()
    async with asyncio.TaskGroup() as tasks:
        made = Wire(tasks, kind, near, far)
        transceiver = far.addTransceiver(kind, direction="sendonly")
        made.sending = Sending(transceiver.sender, made.media)
        made.media.open()
        wanted = (codec, "rtx") if rtx else (codec,)
        known = [c for c in RTCRtpSender.getCapabilities(kind).codecs if c.name.lower() in wanted]
        transceiver.setCodecPreferences(known)
        await far.setLocalDescription(await far.createOffer())
        await near.setRemoteDescription(far.localDescription)
        receiver = made.receiver
        handle = receiver._handle_rtp_packet

        async def watch(packet: RtpPacket, arrival_time_ms: int) -> None:
            made.packets.append(packet)
            await handle(packet, arrival_time_ms=arrival_time_ms)

        receiver._handle_rtp_packet = watch
        way = made.sending._way

        def lossy_way() -> Callable[[bytes], Any]:
            send = way()
            return lambda data: None if made.lose(RtpPacket.parse(data)) else send(data)

        made.sending._way = lossy_way  # type: ignore[method-assign]
        await near.setLocalDescription(await near.createAnswer())
        await far.setRemoteDescription(near.localDescription)
        try:
            await until(lambda: near.connectionState == far.connectionState == "connected")
            yield made
        finally:
            made.media.stop()
            await asyncio.gather(aiortc_hooks.close(near), aiortc_hooks.close(far))


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_the_engine_decodes_what_we_send(codec: str) -> None:
    async with wire(codec=codec) as made:
        shown = await made.see(10)
        numbers = [read_pattern(frame.to_ndarray(format="gray")) for frame in shown]
        assert all(reading is not None for reading in numbers)
        assert (shown[0].width, shown[0].height) == SIZE


@pytest.mark.parametrize("codec", ["opus", "pcmu", "g722"])
async def test_the_engine_hears_what_we_send(codec: str) -> None:
    async with wire("audio", codec) as made:
        heard = await made.see(20)
        assert sum(frame.samples / frame.sample_rate for frame in heard) == pytest.approx(0.4)


async def test_packets_say_what_they_must() -> None:
    async with wire() as made:
        await made.until(lambda: sum(packet.marker for packet in made.packets) > 5)
        transceiver = made.far.getTransceivers()[0]
        packets = made.packets
        assert {packet.ssrc for packet in packets} == {cast(Any, transceiver.sender)._ssrc}
        assert {packet.extensions.mid for packet in packets} == {transceiver.mid}
        assert all(packet.extensions.abs_send_time is not None for packet in packets)
        numbers = [packet.sequence_number for packet in packets]
        assert numbers == [(numbers[0] + n) & 0xFFFF for n in range(len(numbers))]
        by_picture: dict[int, list[int]] = {}
        for packet in packets:
            by_picture.setdefault(packet.timestamp, []).append(packet.marker)
        complete = list(by_picture.values())[:-1]
        assert all(marks == [0] * (len(marks) - 1) + [1] for marks in complete)


async def test_sender_reports_tell_when_a_picture_was_taken() -> None:
    async with wire() as made:
        await made.until(lambda: made.packets)
        sender = cast(Any, made.sending.sender)
        await made.until(lambda: sender._RTCRtpSender__lsr is not None)
        ntp = sender._RTCRtpSender__ntp_timestamp / (1 << 32) - 2_208_988_800
        taken = (sender._RTCRtpSender__rtp_timestamp - made.sending._origin & 0xFFFFFFFF) / 90_000
        assert time.time() - ntp == pytest.approx(media_time() - taken, abs=0.02)
        stats = await made.far.getStats()
        sent = next(entry for entry in stats.values() if entry.type == "outbound-rtp")
        assert sent.packetsSent >= len(made.packets) > 0 and sent.bytesSent > 0


@pytest.mark.parametrize("rtx", [True, False])
async def test_what_was_lost_is_sent_again(rtx: bool) -> None:
    async with wire(rtx=rtx) as made:
        await made.see(3)
        lost: list[int] = []
        ssrc = cast(Any, made.sending.sender)._ssrc

        def lose(packet: RtpPacket) -> bool:
            """Three packets, the first time that they come."""
            number = packet.sequence_number
            if packet.ssrc != ssrc or len(lost) == 3 or number % 4 or number in lost:
                return False
            lost.append(number)
            return True

        made.lose = lose
        await made.until(lambda: made.sending.retransmitted >= 3)
        made.lose = lambda packet: False
        assert len(await made.see(10)) == 10


async def test_who_asks_for_everything_again_and_again_gets_half_as_much_as_was_sent() -> None:
    async with wire() as made:
        await made.see(5)
        sent = made.sending._engine._RTCRtpSender__packet_count
        for number in [kept[0] for kept in made.sending._history if kept is not None] * 20:
            await made.sending._retransmit(number)
        assert 0 < made.sending.retransmitted <= sent
        await made.sending._retransmit(made.sending._sequence_number + 5)  # never sent


async def test_padding_is_packets_that_were_sent_already_and_the_engine_throws_them_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with wire() as made:
        await made.see(3)
        sender = cast(Any, made.sending.sender)
        padding: list[int] = []
        made.lose = lambda packet: packet.ssrc == sender._rtx_ssrc and padding.append(len(packet.payload)) is not None
        monkeypatch.setattr(OutgoingVideo, "padding", lambda self: 400_000)
        begun, began = made.sending.retransmitted, time.monotonic()
        await made.until(lambda: len(padding) > 30)
        assert sum(padding) * 8 <= 400_000 * (time.monotonic() - began + 0.1) + 2 * 1200 * 8
        assert made.sending.retransmitted == begun, "nobody asked for it"
        shown = [read_pattern(frame.to_ndarray(format="gray")) for frame in await made.see(10)]
        assert None not in shown


async def test_without_retransmission_by_the_standard_there_is_no_padding() -> None:
    async with wire(rtx=False) as made:
        await made.see(1)
        assert isinstance(made.media, OutgoingVideo) and made.media._chooser is not None
        assert not made.media._chooser._can_probe


async def test_a_coding_of_another_size_leaves_nothing_to_be_sent_again() -> None:
    async with wire() as made:
        await made.see(2)
        number = made.sending._sequence_number
        assert made.sending._history[(number - 1) % 1024] is not None
        await made.sending._send_frame(OutgoingFrame((b"\x10" + bytes(20),), 10_000_000, True, (160, 120)))
        assert [kept[0] for kept in made.sending._history if kept is not None] == [number]


async def test_packets_of_a_relayed_connection_go_the_engines_way(monkeypatch: pytest.MonkeyPatch) -> None:
    async with wire() as made:
        await made.see(1)
        transport = cast(Any, made.sending.sender.transport)
        pair = transport.transport._connection._nominated[1]
        passed: list[int] = []
        send = transport._send_rtp

        async def watched(data: bytes) -> None:
            passed.append(len(data))
            await send(data)

        monkeypatch.setattr(transport, "_send_rtp", watched)
        monkeypatch.setattr(pair.protocol, "transport", _NoSocket(pair.protocol.transport))
        await made.until(lambda: len(passed) > 3)


class _NoSocket:
    """Sends as aioice's TURN transport does; it is no socket of asyncio's."""

    def __init__(self, transport: Any) -> None:
        self.sendto, self.close = transport.sendto, transport.close


class _Full:
    """A socket whose network stands still; it is asked how much waits for it."""

    waits = 1200

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.close, self.max_size = transport.close, transport.max_size
        self.asked = 0

    def sendto(self, data: bytes, address: Any) -> None:
        self._transport.sendto(data, address)

    def get_write_buffer_size(self) -> int:
        self.asked += 1
        return self.waits


async def test_no_packet_is_too_large_for_the_least_mtu_of_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """With IPv6 and UDP (48 octets) and a TURN channel (4) around it, those too that are sent again."""
    async with wire() as made:
        await made.see(1)
        protocol = aiortc_hooks.ice_connection(made.far)._nominated[1].protocol
        sizes: list[int] = []
        send = protocol.transport.sendto

        class Measured(_Full):
            waits = 0

            def sendto(self, data: bytes, address: Any) -> None:
                sizes.append(len(data))
                send(data, address)

        monkeypatch.setattr(protocol, "transport", Measured(protocol.transport))
        made.sending._header = HeaderWriter({MID: 1, ABS_SEND_TIME: 2}, "a-mid-16-octets!")
        await made.until(lambda: max(sizes, default=0) > 1170)
        for kept in made.sending._history:
            if kept is not None:
                await made.sending._retransmit(kept[0])
        assert 1170 < max(sizes) <= 1280 - 48 - 4


async def test_a_network_that_stands_still_gets_nothing_more_and_then_what_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with wire() as made:
        await made.see(3)
        full = _Full(aiortc_hooks.ice_connection(made.far)._nominated[1].protocol.transport)
        monkeypatch.setattr(aiortc_hooks.ice_connection(made.far)._nominated[1].protocol, "transport", full)
        await made.until(lambda: full.asked > 5)
        sent = made.sending._engine._RTCRtpSender__packet_count
        drawn = made._number
        await made.until(lambda: made._number > drawn + 70)
        assert made.sending._engine._RTCRtpSender__packet_count <= sent + 16
        full.waits = 0
        number = 0
        while number <= drawn + 70:
            shown = read_pattern((await made.see(1))[0].to_ndarray(format="gray"))
            number = shown.frame if shown is not None else number


async def test_a_request_for_a_key_frame_is_met() -> None:
    async with wire() as made:
        await made.see(3)

        def keys() -> int:
            starts = [packet.payload for packet in made.packets if packet.payload[:1] == b"\x10"]
            return sum(not payload[1] & 1 for payload in starts)

        before = keys()
        await made.receiver._send_rtcp_pli(cast(Any, made.sending.sender)._ssrc)
        await made.until(lambda: keys() > before)


async def test_a_viewers_reports_and_estimates_reach_what_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float, float | None]] = []
    monkeypatch.setattr(OutgoingVideo, "report", lambda self, loss, rtt: told.append(("report", loss, rtt)))
    monkeypatch.setattr(OutgoingVideo, "estimate", lambda self, bitrate: told.append(("estimate", bitrate, None)))
    async with wire() as made:
        await made.until(lambda: any(what == "report" and rtt is not None for what, _, rtt in told))
        assert all(loss == 0 for what, loss, _ in told if what == "report")
        assert all(0 <= rtt < 5 for _, _, rtt in told if rtt is not None)
        estimates = [bitrate for what, bitrate, _ in told if what == "estimate"]
        await made.until(lambda: estimates or any(what == "estimate" for what, _, _ in told))


async def test_estimates_that_cannot_be_read_are_passed_over() -> None:
    async with wire() as made:
        await made.see(1)
        await made.sending._rtcp(RtcpPsfbPacket(fmt=15, ssrc=1, media_ssrc=2, fci=b"REMB"))
        await made.see(1)


async def test_a_sender_ends_with_its_connection_and_lets_go_of_the_source() -> None:
    async with wire() as made:
        await made.see(1)
        assert made.pictures.readers == 2, "the encoder's, and the one from when it rang"
        await made.far.close()
        await until(lambda: made.pictures.readers == 0)


async def test_a_failure_of_ours_ends_no_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with wire() as made:
        await made.see(1)

        async def broken(self: OutgoingVideo) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(OutgoingVideo, "get", broken)
        await made.until(lambda: "a sender failed" in caplog.text)
        assert made.far.connectionState == "connected"
