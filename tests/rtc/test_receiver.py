"""Contracts with the engine's receiver: each hooked private part exists, and the hook has its effect.

If one of these tests fails after an upgrade, read ``peer/rtc/receiver.py`` and ``peer/rtc/rtp_fast_path.py`` first.
Plain aiortc sends. ``tests/rtp`` tests the decisions that need no engine.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from aiortc import rtcrtpsender
from aiortc.rtp import RtcpByePacket, RtcpSenderInfo, RtcpSrPacket, RtpPacket

from peer.media.frames import EncodedFrame
from peer.media.incoming.track import FirstFrame
from peer.rtc import receiver as receiver_module
from peer.rtc.rtp_fast_path import MAX_STREAMS
from peer.rtp.ntp import NTP_EPOCH
from peer.rtp.packet import Packet
from tests.media import encoded_frames
from tests.rtc.loopback import Loopback, loopback
from tests.waiting import until

Lose = Callable[[int, int], bool]
"""Decides from the SSRC and sequence number of an RTP packet whether it is lost."""


@contextmanager
def losing(pair: Loopback, lose: Lose) -> Iterator[None]:
    """Lose some of the sender's packets."""
    transport = pair.sender.transport
    send = transport._send_rtp

    async def lossy(data: bytes) -> None:
        is_rtp = data[1] & 0x7F < 64 or data[1] & 0x7F >= 96  # RFC 5761 4
        if not (is_rtp and lose(int.from_bytes(data[8:12]), int.from_bytes(data[2:4]))):
            await send(data)

    transport._send_rtp = lossy  # type: ignore[method-assign]
    try:
        yield
    finally:
        transport._send_rtp = send  # type: ignore[method-assign]


async def read(pair: Loopback, count: int) -> list[EncodedFrame]:
    """Return ``count`` encoded frames as they are received, while frames are sent."""
    with pair.media.encoded.read(100) as reader:
        frames: list[EncodedFrame] = []

        def enough() -> bool:
            while (frame := reader.get_nowait()) is not None:
                frames.append(frame)
            return len(frames) >= count

        await pair.send_until(enough)
    return frames


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_first_frame_is_decoded_and_no_other_without_readers(codec: str) -> None:
    async with loopback(codec) as pair:
        await pair.send_until(lambda: pair.first_frames)
        await pair.receive_frames(20)
        assert pair.first_frames == [FirstFrame(320, 240, codec)]
        assert pair.media.video.counters.decoded < 5
        assert not [t for t in threading.enumerate() if t.name == "video-decoder" and t.daemon], "the decoder runs"


async def test_reader_starts_the_decoder_at_a_requested_key_frame() -> None:
    async with loopback() as pair:
        await pair.receive_frames(10)
        with pair.media.video.frames.read() as reader:
            waiting = asyncio.ensure_future(reader.get())
            await pair.send_until(waiting.done)
            assert (await waiting).width == 320
        assert pair.media.video.counters.skipped >= 1, "decoding did not wait for a key frame"
        decoded = pair.media.video.counters.decoded
        await pair.receive_frames(20)
        assert pair.media.video.counters.decoded <= decoded + 3, "decoding continued without readers"


async def test_encoded_frames_have_what_a_recording_needs() -> None:
    async with loopback() as pair:
        frames = await read(pair, 5)
    assert [f.codec for f in frames] == ["vp8"] * len(frames)
    assert frames[0].key and frames[0].gap
    assert all(second.timestamp > first.timestamp for first, second in itertools.pairwise(frames))
    assert not any(frame.gap for frame in frames[1:])
    assert frames[0].clock_rate == 90_000


async def test_sender_reports_give_frames_a_wall_clock_time() -> None:
    async with loopback() as pair:
        async with asyncio.timeout(20):
            while (frame := (await read(pair, 1))[-1]).ntp is None:
                pass
    assert abs(frame.ntp - time.time()) < 5


async def test_lost_packet_is_requested_and_retransmitted() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        lost: list[int] = []

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == pair.sender._ssrc and len(lost) < 3:
                lost.append(number)
                return True
            return False

        with losing(pair, lose):
            frames = await read(pair, 10)
        assert len(lost) == 3
        assert not any(frame.gap for frame in frames[1:]), "a frame is missing"
        assert pair.media.video.counters.lost == 0
        assert pair.receiver.lost == 3, "retransmitted packets still count as lost (RFC 3550 6.4.1)"


async def test_packet_without_retransmission_freezes_video_briefly() -> None:
    """Without the hook: until the jitter buffer is full, half a minute at one packet per frame."""
    async with loopback() as pair:
        await pair.receive_frames(5)
        lost: set[int] = set()

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == pair.sender._ssrc and not lost:
                lost.add(number)
                return True
            return ssrc == pair.sender._rtx_ssrc

        with pair.media.video.frames.read() as reader:
            await pair.send_until(reader.get_nowait)
            with losing(pair, lose):
                await pair.send_until(lambda: pair.media.video.counters.lost)
            seen = pair.media.video.counters.decoded
            await pair.send_until(lambda: pair.media.video.counters.decoded > seen + 3)
        counters = pair.media.video.counters
        assert counters.lost == 1
        assert counters.skipped >= 1, "frames without their reference were decoded"


async def test_gap_is_flagged_for_recordings() -> None:
    async with loopback() as pair:
        await pair.receive_frames(3)
        lost: list[int] = []

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == pair.sender._ssrc and len(lost) < 1:
                lost.append(number)
                return True
            return ssrc == pair.sender._rtx_ssrc

        with losing(pair, lose):
            with pair.media.encoded.read(100) as reader:
                frames: list[EncodedFrame] = []

                def reported() -> bool:
                    while (frame := reader.get_nowait()) is not None:
                        frames.append(frame)
                    return any(frame.gap for frame in frames)

                await pair.send_until(reported)
        assert [frame.gap for frame in frames].count(True) == 1


async def test_outage_ends_with_the_next_key_frame() -> None:
    """All of 60 packets are lost, so that a key frame is the quicker way to recover."""
    async with loopback() as pair:
        await pair.receive_frames(5)
        lost = 0

        def lose(ssrc: int, number: int) -> bool:
            nonlocal lost
            lost += 1
            return True

        with pair.media.video.frames.read():
            with losing(pair, lose):
                await pair.send_until(lambda: lost >= 60)
            seen = pair.media.video.counters.decoded
            await pair.send_until(lambda: pair.media.video.counters.decoded > seen + 3)


async def test_lost_packet_without_readers_is_not_requested() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        retransmissions = 0

        def lose(ssrc: int, number: int) -> bool:
            nonlocal retransmissions
            retransmissions += ssrc == pair.sender._rtx_ssrc
            return number % 4 == 0

        with losing(pair, lose):
            await pair.receive_frames(20)
        assert retransmissions == 0
        assert pair.receiver.lost > 0


async def test_requests_stop_when_the_last_reader_closes() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        lost: list[int] = []
        requests: list[float] = []
        engine: Any = pair.receiver.rtp_receiver
        send = engine._send_rtcp_nack

        async def nack(ssrc: int, numbers: list[int]) -> None:
            requests.append(time.monotonic())
            await send(ssrc, numbers)

        engine._send_rtcp_nack = nack

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == pair.sender._ssrc and not lost:
                lost.append(number)
                return True
            return ssrc == pair.sender._rtx_ssrc

        with pair.media.encoded.read(10):
            await pair.receive_frames(3)
            with losing(pair, lose):
                await pair.send_until(lambda: requests)
        await pair.receive_frames(1)
        before = len(requests)
        await pair.receive_frames(25)
        assert len(requests) == before


async def test_bye_does_not_stop_receiving() -> None:
    """Without the hook: the engine stops decoding for good while the connection continues."""
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        await pair.sender.transport._send_rtp(bytes(RtcpByePacket(sources=[pair.sender._ssrc])))
        await pair.receive_frames(5)


async def test_streams_beyond_the_limit_are_ignored() -> None:
    """Without the hook: the engine's report task dies, and closing waits for it without end."""
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        receiver: Any = pair.near.getReceivers()[0]
        payload_type = pair.far.getTransceivers()[0]._codecs[0].payloadType
        for number in range(60):
            stray = RtpPacket(payload_type=payload_type, sequence_number=1, timestamp=0, ssrc=1000 + number)
            stray.payload = b"\x10\x00\x00"
            extensions = pair.sender._RTCRtpSender__rtp_header_extensions_map  # type: ignore[attr-defined]
            await pair.sender.transport._send_rtp(stray.serialize(extensions))
        await pair.receive_frames(3)
        assert len(receiver._RTCRtpReceiver__remote_streams) <= receiver_module.MAX_SSRCS


def payload_type(pair: Loopback, codec: str) -> int:
    codecs = pair.receiver.rtp_receiver._RTCRtpReceiver__codecs.values()  # type: ignore[attr-defined]
    return next(known.payloadType for known in codecs if known.name.lower() == codec)


async def test_sender_may_change_its_ssrc_any_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiver_module, "STREAM_TIMEOUT", 0.0)
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        router = pair.receiver.rtp_receiver.transport._rtp_router
        for ssrc in range(1, MAX_STREAMS + 10):
            pair.sender._ssrc = ssrc
            pair.sender.transport._rtp_router.senders = {ssrc: pair.sender}
            await pair.send_until(lambda ssrc=ssrc: ssrc in pair.receiver._streams)
        assert len(pair.receiver._streams) <= receiver_module.MAX_SSRCS
        assert len(router.ssrc_table) <= MAX_STREAMS + 2, "the two that the description declares"
        with pair.media.video.frames.read() as reader:
            await pair.send_until(reader.get_nowait)


async def test_sender_report_without_a_clock_is_ignored() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        pair.receiver._sender_report = None
        for ntp, report in ((0, None), (NTP_EPOCH << 32, 0.0)):
            info = RtcpSenderInfo(ntp_timestamp=ntp, rtp_timestamp=0, packet_count=1, octet_count=1)
            await pair.receiver._handle_rtcp(RtcpSrPacket(ssrc=pair.sender._ssrc, sender_info=info))
            reported = pair.receiver._sender_report
            assert (reported and reported[0]) == report


async def test_wraps_cost_no_frame_and_keep_the_wall_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sequence numbers, SRTP's roll-over counter and timestamps, all started just before they wrap."""
    monkeypatch.setattr(rtcrtpsender, "random_sequence_number", lambda: 65_500)
    ssrcs_and_offset = itertools.count((1 << 32) - 30 * 3000)  # the offset is the third one
    monkeypatch.setattr(rtcrtpsender, "random32", lambda: next(ssrcs_and_offset))
    async with loopback() as pair:
        frames = await read(pair, 120)
        sequence = pair.receiver._streams[pair.sender._ssrc].statistics.sequence
        assert sequence.base == 65_500 + 0x10000
        assert sequence.highest > 0x20000
    assert frames[-1].timestamp > 30 * 3000
    assert frames[-1].ntp is not None
    assert all(second.timestamp > first.timestamp for first, second in itertools.pairwise(frames))
    assert pair.receiver.lost == 0
    assert all(abs(frame.ntp - time.time()) < 10 for frame in frames if frame.ntp is not None)


async def test_sender_report_is_not_applied_to_the_next_stream() -> None:
    async with loopback() as pair:
        async with asyncio.timeout(20):
            while (await read(pair, 1))[-1].ntp is None:
                pass
        with pair.media.encoded.read(100) as reader:
            pair.sender._ssrc = 77
            await pair.send_until(lambda: pair.receiver._ssrc == 77)
            await pair.receive_frames(1)
            frames = [frame for frame in iter(reader.get_nowait, None) if frame.gap]
        assert [frame.ntp for frame in frames] == [None]


async def test_change_of_payload_type_changes_the_codec() -> None:
    async with loopback("vp8", "h264") as pair:
        await pair.send_until(lambda: pair.first_frames)
        vp8, h264 = payload_type(pair, "vp8"), payload_type(pair, "h264")
        idr = encoded_frames.video_frames("h264", 1)[0].data
        with pair.media.encoded.read(100) as reader:
            numbers = itertools.count(1)

            def receive(payload_type: int, data: bytes) -> None:
                number = next(numbers)
                pair.receiver.receive(Packet(payload_type, number, 3000 * number, 77, data, marker=True))

            receive(vp8, b"\x10" + encoded_frames.video_frames("vp8", 1)[0].data)
            slices = b"\x65" + idr[idr.rindex(b"\x00\x00\x01") + 4 :]
            receive(h264, b"\x67" + slices)
            next(numbers)  # one packet is lost
            async with asyncio.timeout(10):
                while pair.media.video.counters.lost == 0:
                    receive(h264, b"\x41\x80")
                    await asyncio.sleep(0.01)
            receive(vp8, b"\x10" + encoded_frames.video_frames("vp8", 1)[0].data)
            frames = list(iter(reader.get_nowait, None))
        assert [frame.codec for frame in frames if frame.data.startswith(b"\0\0\0\1")] == ["h264"] * (len(frames) - 2)
        assert [frame.codec for frame in (frames[0], frames[-1])] == ["vp8", "vp8"]


async def test_key_frame_behind_a_loss_needs_no_request() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames)
        requests: list[int] = []
        engine: Any = pair.receiver.rtp_receiver

        async def pli(ssrc: int) -> None:
            requests.append(ssrc)

        engine._send_rtcp_pli = pli
        key, kind = b"\x10" + encoded_frames.video_frames("vp8", 1)[0].data, payload_type(pair, "vp8")
        with pair.media.encoded.read(100) as reader:
            pair.receiver.receive(Packet(kind, 1, 0, 77, key, marker=True))
            pair.receiver.receive(Packet(kind, 3, 6000, 77, key, marker=True))
            assert [frame.gap for frame in iter(reader.get_nowait, None)] == [True, True]
        await asyncio.sleep(0)
        assert pair.media.video.counters.lost == 1
        assert requests == []


async def test_unconsumed_frames_are_counted_once_in_any_order() -> None:
    async with loopback() as pair:
        await pair.send_until(lambda: pair.first_frames and not pair.media.video.needed)
        before, kind = pair.media.video.counters.frames, payload_type(pair, "vp8")
        for number in (1, 3, 2, 4, 5, 6, 4):  # two packets per frame
            pair.receiver.receive(Packet(kind, number, (number + 1) // 2 * 3000, 77, b"\x10\x00", marker=False))
        assert pair.media.video.counters.frames == before + 3


async def test_engine_reports_our_statistics() -> None:
    async with loopback() as pair:
        await pair.receive_frames(10)
        assert pair.receiver.received >= 10
        assert pair.receiver.lost == 0

        async def reported() -> bool:
            report = await pair.sender.getStats()
            return any(entry.type == "remote-inbound-rtp" for entry in report.values())

        async with asyncio.timeout(10):
            while not await reported():
                await pair.receive_frames(5)


async def test_exception_of_a_track_does_not_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with loopback() as pair:
        calls = []

        def broken(frame: object) -> None:
            calls.append(frame)
            raise RuntimeError("a reader's bug")

        pair.media.video.put = broken  # type: ignore[method-assign]
        await pair.send_until(lambda: len(calls) >= 3)
        assert pair.near.connectionState == "connected"
        assert "failed to process a received packet" in caplog.text


async def test_decoder_thread_ends_with_its_connection() -> None:
    async with loopback() as pair:
        with pair.media.video.frames.read() as reader:
            waiting = asyncio.ensure_future(reader.get())
            await pair.send_until(waiting.done)
            assert [t for t in threading.enumerate() if t.name == "video-decoder"]
            await pair.near.close()
            await until(lambda: not [t for t in threading.enumerate() if t.name == "video-decoder"])
