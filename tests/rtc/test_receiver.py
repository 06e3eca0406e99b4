"""Contracts with the engine's receiver: each private part that is hooked is there, and does what the hook is for.

When one of these fails after an upgrade, read ``peer/rtc/receiver.py`` and ``peer/rtc/rtp_fast_path.py`` first. The
bare engine sends; ``tests/rtp`` has what is decided without it.
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
from aiortc.rtp import RtcpByePacket, RtcpSenderInfo, RtcpSrPacket, RtpPacket

from peer.media.frames import EncodedFrame
from peer.media.incoming.track import FirstPicture
from peer.rtc import receiver as reception
from peer.rtc.rtp_fast_path import MAX_STREAMS
from peer.rtp.packet import Packet
from tests.line import Line, line
from tests.media import coded
from tests.waiting import until

Lose = Callable[[int, int], bool]
"""Told the SSRC and sequence number of each RTP packet: whether it is lost."""


@contextmanager
def losing(made: Line, lose: Lose) -> Iterator[None]:
    """Some of the sender's packets do not get through."""
    transport = made.sender.transport
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


async def read(made: Line, count: int) -> list[EncodedFrame]:
    """So many frames as they came, while pictures are sent."""
    with made.media.encoded.read(100) as reader:
        frames: list[EncodedFrame] = []

        def enough() -> bool:
            while (frame := reader.get_nowait()) is not None:
                frames.append(frame)
            return len(frames) >= count

        await made.until(enough)
    return frames


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_the_first_picture_is_decoded_and_told_and_no_other_if_nobody_looks(codec: str) -> None:
    async with line(codec) as made:
        await made.until(lambda: made.firsts)
        await made.pictures(20)
        assert made.firsts == [FirstPicture(320, 240, codec)]
        assert made.media.video.counters.decoded < 5
        assert not [t for t in threading.enumerate() if t.name == "video-decoder" and t.daemon], "it has ended"


async def test_a_reader_starts_the_decoder_at_a_key_frame_it_asks_for() -> None:
    async with line() as made:
        await made.pictures(10)
        with made.media.video.frames.read() as reader:
            waiting = asyncio.ensure_future(reader.get())
            await made.until(waiting.done)
            assert (await waiting).width == 320
        assert made.media.video.counters.skipped >= 1, "it did not wait for a key frame"
        decoded = made.media.video.counters.decoded
        await made.pictures(20)
        assert made.media.video.counters.decoded <= decoded + 3, "the last reader went, and decoding went on"


async def test_encoded_packets_carry_what_a_recording_needs() -> None:
    async with line() as made:
        frames = await read(made, 5)
    assert [f.codec for f in frames] == ["vp8"] * len(frames)
    assert frames[0].key and frames[0].gap
    assert all(later.timestamp > sooner.timestamp for sooner, later in itertools.pairwise(frames))
    assert not any(frame.gap for frame in frames[1:])
    assert frames[0].clock_rate == 90_000


async def test_sender_reports_put_a_wall_clock_on_packets() -> None:
    async with line() as made:
        async with asyncio.timeout(20):
            while (frame := (await read(made, 1))[-1]).ntp is None:
                pass
    assert abs(frame.ntp - time.time()) < 5


async def test_a_lost_packet_is_asked_for_and_comes_again() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        lost: list[int] = []

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == made.sender._ssrc and len(lost) < 3:
                lost.append(number)
                return True
            return False

        with losing(made, lose):
            frames = await read(made, 10)
        assert len(lost) == 3
        assert not any(frame.gap for frame in frames[1:]), "nothing was missing in the end"
        assert made.media.video.counters.torn == 0
        assert made.receiving.lost == 3, "what was sent again does not count as never lost (RFC 3550 6.4.1)"


async def test_a_packet_that_is_lost_for_good_freezes_the_picture_for_a_moment_only() -> None:
    """Without the hook: until the jitter buffer is full, half a minute at one packet a picture."""
    async with line() as made:
        await made.pictures(5)
        gone: set[int] = set()

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == made.sender._ssrc and not gone:
                gone.add(number)
                return True
            return ssrc == made.sender._rtx_ssrc

        with made.media.video.frames.read() as reader:
            await made.until(reader.get_nowait)
            with losing(made, lose):
                await made.until(lambda: made.media.video.counters.torn)
            seen = made.media.video.counters.decoded
            await made.until(lambda: made.media.video.counters.decoded > seen + 3)
        counters = made.media.video.counters
        assert counters.torn == 1
        assert counters.skipped >= 1, "pictures that cannot be decoded were decoded"


async def test_a_gap_is_told_to_who_records() -> None:
    async with line() as made:
        await made.pictures(3)
        gone: list[int] = []

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == made.sender._ssrc and len(gone) < 1:
                gone.append(number)
                return True
            return ssrc == made.sender._rtx_ssrc

        with losing(made, lose):
            with made.media.encoded.read(100) as reader:
                frames: list[EncodedFrame] = []

                def told() -> bool:
                    while (frame := reader.get_nowait()) is not None:
                        frames.append(frame)
                    return any(frame.gap for frame in frames)

                await made.until(told)
        assert [frame.gap for frame in frames].count(True) == 1


async def test_a_silence_of_the_network_is_over_with_the_next_key_frame() -> None:
    """Everything is lost for 60 pictures, more than any sender keeps: nothing of it is asked for in vain for long."""
    async with line() as made:
        await made.pictures(5)
        lost = 0

        def lose(ssrc: int, number: int) -> bool:
            nonlocal lost
            lost += 1
            return True

        with made.media.video.frames.read():
            with losing(made, lose):
                await made.until(lambda: lost >= 60)
            seen = made.media.video.counters.decoded
            await made.until(lambda: made.media.video.counters.decoded > seen + 3)


async def test_nothing_is_asked_for_again_that_nobody_wants() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        again = 0

        def lose(ssrc: int, number: int) -> bool:
            nonlocal again
            again += ssrc == made.sender._rtx_ssrc
            return number % 4 == 0

        with losing(made, lose):
            await made.pictures(20)
        assert again == 0
        assert made.receiving.lost > 0


async def test_what_is_missing_is_not_asked_for_when_the_last_reader_has_gone() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        gone: list[int] = []
        asked: list[float] = []
        engine: Any = made.receiving.receiver
        send = engine._send_rtcp_nack

        async def nack(ssrc: int, numbers: list[int]) -> None:
            asked.append(time.monotonic())
            await send(ssrc, numbers)

        engine._send_rtcp_nack = nack

        def lose(ssrc: int, number: int) -> bool:
            if ssrc == made.sender._ssrc and not gone:
                gone.append(number)
                return True
            return ssrc == made.sender._rtx_ssrc

        with made.media.encoded.read(10):
            await made.pictures(3)
            with losing(made, lose):
                await made.until(lambda: asked)
        await made.pictures(1)
        before = len(asked)
        await made.pictures(25)
        assert len(asked) == before


async def test_a_bye_ends_nothing() -> None:
    """Without the hook: the engine stops decoding for good, and the connection stays."""
    async with line() as made:
        await made.until(lambda: made.firsts)
        await made.sender.transport._send_rtp(bytes(RtcpByePacket(sources=[made.sender._ssrc])))
        await made.pictures(5)


async def test_more_streams_than_a_report_has_room_for_are_not_listened_to() -> None:
    """Without the hook: the engine's report task dies, and closing waits for it for ever."""
    async with line() as made:
        await made.until(lambda: made.firsts)
        receiver: Any = made.near.getReceivers()[0]
        payload_type = made.far.getTransceivers()[0]._codecs[0].payloadType
        for number in range(60):
            stray = RtpPacket(payload_type=payload_type, sequence_number=1, timestamp=0, ssrc=1000 + number)
            stray.payload = b"\x10\x00\x00"
            extensions = made.sender._RTCRtpSender__rtp_header_extensions_map  # type: ignore[attr-defined]
            await made.sender.transport._send_rtp(stray.serialize(extensions))
        await made.pictures(3)
        assert len(receiver._RTCRtpReceiver__remote_streams) <= reception.MAX_SSRCS


def payload_type(made: Line, codec: str) -> int:
    codecs = made.receiving.receiver._RTCRtpReceiver__codecs.values()  # type: ignore[attr-defined]
    return next(known.payloadType for known in codecs if known.name.lower() == codec)


async def test_a_sender_may_change_its_ssrc_as_often_as_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "SILENT", 0.0)
    async with line() as made:
        await made.until(lambda: made.firsts)
        router = made.receiving.receiver.transport._rtp_router
        for ssrc in range(1, MAX_STREAMS + 10):
            made.sender._ssrc = ssrc
            made.sender.transport._rtp_router.senders = {ssrc: made.sender}
            await made.until(lambda ssrc=ssrc: ssrc in made.receiving._streams)
        assert len(made.receiving._streams) <= reception.MAX_SSRCS
        assert len(router.ssrc_table) <= MAX_STREAMS + 2, "those that the description names"
        with made.media.video.frames.read() as reader:
            await made.until(reader.get_nowait)


async def test_a_sender_without_a_clock_says_nothing_of_the_time() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        made.receiving._report = None
        for ntp, report in ((0, None), (reception.NTP_EPOCH << 32, 0.0)):
            info = RtcpSenderInfo(ntp_timestamp=ntp, rtp_timestamp=0, packet_count=1, octet_count=1)
            await made.receiving._rtcp(RtcpSrPacket(ssrc=made.sender._ssrc, sender_info=info))
            told = made.receiving._report
            assert (told and told[0]) == report


async def test_reports_of_one_stream_say_nothing_of_the_next() -> None:
    async with line() as made:
        async with asyncio.timeout(20):
            while (await read(made, 1))[-1].ntp is None:
                pass
        with made.media.encoded.read(100) as reader:
            made.sender._ssrc = 77
            await made.until(lambda: made.receiving._ssrc == 77)
            await made.pictures(1)
            frames = [frame for frame in iter(reader.get_nowait, None) if frame.gap]
        assert [frame.ntp for frame in frames] == [None]


async def test_another_payload_type_is_another_codec_with_its_losses() -> None:
    async with line("vp8", "h264") as made:
        await made.until(lambda: made.firsts)
        vp8, h264 = payload_type(made, "vp8"), payload_type(made, "h264")
        picture = coded.pictures("h264", 1)[0].data
        with made.media.encoded.read(100) as reader:
            numbers = itertools.count(1)

            def take(kind: int, data: bytes) -> None:
                number = next(numbers)
                made.receiving.take(Packet(kind, number, 3000 * number, 77, data, marker=True))

            take(vp8, b"\x10" + coded.pictures("vp8", 1)[0].data)
            slices = b"\x65" + picture[picture.rindex(b"\x00\x00\x01") + 4 :]
            take(h264, b"\x67" + slices)
            next(numbers)  # is lost
            async with asyncio.timeout(10):
                while made.media.video.counters.torn == 0:
                    take(h264, b"\x41\x80")
                    await asyncio.sleep(0.01)
            take(vp8, b"\x10" + coded.pictures("vp8", 1)[0].data)
            frames = list(iter(reader.get_nowait, None))
        assert [frame.codec for frame in frames if frame.data.startswith(b"\0\0\0\1")] == ["h264"] * (len(frames) - 2)
        assert [frame.codec for frame in (frames[0], frames[-1])] == ["vp8", "vp8"]


async def test_a_key_frame_behind_a_loss_is_not_asked_for_again() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        asked: list[int] = []
        engine: Any = made.receiving.receiver

        async def pli(ssrc: int) -> None:
            asked.append(ssrc)

        engine._send_rtcp_pli = pli
        key, kind = b"\x10" + coded.pictures("vp8", 1)[0].data, payload_type(made, "vp8")
        with made.media.encoded.read(100) as reader:
            made.receiving.take(Packet(kind, 1, 0, 77, key, marker=True))
            made.receiving.take(Packet(kind, 3, 6000, 77, key, marker=True))
            assert [frame.gap for frame in iter(reader.get_nowait, None)] == [True, True]
        await asyncio.sleep(0)
        assert made.media.video.counters.torn == 1
        assert asked == []


async def test_pictures_that_nobody_wants_are_counted_once_in_whatever_order_they_come() -> None:
    async with line() as made:
        await made.until(lambda: made.firsts and not made.media.video.wanted)
        before, kind = made.media.video.counters.frames, payload_type(made, "vp8")
        for number in (1, 3, 2, 4, 5, 6, 4):  # two packets a picture
            made.receiving.take(Packet(kind, number, (number + 1) // 2 * 3000, 77, b"\x10\x00", marker=False))
        assert made.media.video.counters.frames == before + 3


async def test_the_engine_reports_our_statistics() -> None:
    async with line() as made:
        await made.pictures(10)
        assert made.receiving.received >= 10
        assert made.receiving.lost == 0

        async def told() -> bool:
            report = await made.sender.getStats()
            return any(entry.type == "remote-inbound-rtp" for entry in report.values())

        async with asyncio.timeout(10):
            while not await told():
                await made.pictures(5)


async def test_a_frame_that_cannot_be_taken_does_not_end_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async with line() as made:
        calls = []

        def broken(frame: object) -> None:
            calls.append(frame)
            raise RuntimeError("a reader's bug")

        made.media.video.feed = broken  # type: ignore[method-assign]
        await made.until(lambda: len(calls) >= 3)
        assert made.near.connectionState == "connected"
        assert "could not be taken" in caplog.text


async def test_no_decoder_thread_outlives_its_connection() -> None:
    async with line() as made:
        with made.media.video.frames.read() as reader:
            waiting = asyncio.ensure_future(reader.get())
            await made.until(waiting.done)
            assert [t for t in threading.enumerate() if t.name == "video-decoder"]
            await made.near.close()
            await until(lambda: not [t for t in threading.enumerate() if t.name == "video-decoder"])
