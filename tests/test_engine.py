"""Contracts with aiortc and aioice: each private part that is hooked is there, and does what the hook is for.

When one of these fails after an upgrade, read ``peer/engine.py``, ``peer/reception.py`` and ``peer/ice.py`` first.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import av
import numpy as np
import pytest
from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.rtp import RtpPacket

from peer import engine, reception
from peer.media.fanout import Fanout
from peer.media.frames import VIDEO_TIME_BASE
from peer.media.incoming import FirstPicture, IncomingMedia
from peer.media.outgoing import OutgoingVideo
from tests.waiting import until


def packet(sequence: int, timestamp: int, data: bytes, *, marker: int = 0) -> Any:
    made: Any = RtpPacket(payload_type=97, sequence_number=sequence, timestamp=timestamp, marker=marker)
    made._data = data
    return made


class TestMarkerJitterBuffer:
    def test_a_picture_comes_out_with_its_last_packet(self) -> None:
        buffer = reception.MarkerJitterBuffer()
        assert buffer.add(packet(1, 100, b"a")) == (False, None)
        _, frame = buffer.add(packet(2, 100, b"b", marker=1))
        assert frame is not None and (frame.data, frame.timestamp) == (b"ab", 100)

    def test_packets_in_any_order_make_the_same_picture(self) -> None:
        buffer = reception.MarkerJitterBuffer()
        buffer.add(packet(1, 100, b"x", marker=1))
        assert buffer.add(packet(4, 200, b"c", marker=1))[1] is None
        assert buffer.add(packet(3, 200, b"b"))[1] is None
        _, frame = buffer.add(packet(2, 200, b"a"))
        assert frame is not None and frame.data == b"abc"

    def test_pictures_behind_a_gap_come_out_when_it_is_filled(self) -> None:
        buffer = reception.MarkerJitterBuffer()
        buffer.add(packet(1, 100, b"x", marker=1))
        assert buffer.add(packet(3, 300, b"c", marker=1))[1] is None
        assert buffer.add(packet(4, 400, b"d", marker=1))[1] is None
        first = buffer.add(packet(2, 200, b"b", marker=1))[1]
        rest = [buffer.pop_complete(), buffer.pop_complete(), buffer.pop_complete()]
        assert [f and f.data for f in (first, *rest)] == [b"b", b"c", b"d", None]

    def test_a_sender_without_markers_gets_its_pictures_out_one_later(self) -> None:
        buffer = reception.MarkerJitterBuffer()
        assert buffer.add(packet(1, 100, b"a"))[1] is None
        _, frame = buffer.add(packet(2, 200, b"b"))
        assert frame is not None and frame.data == b"a"

    def test_what_is_missing_is_given_up_with_its_picture_and_the_rest_stays(self) -> None:
        buffer = reception.MarkerJitterBuffer()
        buffer.add(packet(1, 100, b"x", marker=1))
        buffer.add(packet(2, 200, b"a"))  # 3 is lost
        buffer.add(packet(4, 200, b"c", marker=1))
        buffer.add(packet(5, 300, b"d"))
        buffer.add(packet(6, 300, b"e", marker=1))
        assert buffer.pop_complete() is None
        buffer.lost = False
        buffer.skip_gap()
        assert buffer.lost
        frame = buffer.pop_complete()
        assert frame is not None and frame.data == b"de"
        assert buffer.pop_complete() is None
        buffer.skip_gap()  # nothing is missing now
        assert buffer.add(packet(7, 400, b"f", marker=1))[1] is not None

    def test_what_the_engine_throws_away_is_noticed(self) -> None:
        buffer = reception.MarkerJitterBuffer()
        buffer.add(packet(1, 100, b"x", marker=1))
        buffer.lost = False
        buffer.add(packet(3, 300, b"c"))
        assert not buffer.lost  # 2 may still come
        buffer.add(packet(600, 400, b"d"))
        assert buffer.lost


def test_lost_packets_are_asked_for_again_and_then_given_up() -> None:
    losses = reception.Losses()
    assert losses.look({7}, 0.0) == ([], False)  # the engine has asked
    assert losses.look({7, 9}, 0.05) == ([], False)
    assert losses.look({7, 9}, 0.1) == ([7], False)
    assert losses.look({7, 9}, 0.16) == ([9], False)
    assert losses.look({9}, 0.2) == ([], False)  # 7 came
    assert losses.look({9}, 0.27) == ([9], False)
    assert losses.look({9}, 0.05 + reception.GIVE_UP) == ([], True)
    assert losses.look(set(), 1.0) == ([], False)
    assert losses.look({9}, 2.0) == ([], False), "a new loss of the same number"


@pytest.mark.parametrize("origin", [0, 5, 2**32 - 10])
def test_timestamps_are_unwrapped_across_their_end_and_back(origin: int) -> None:
    timestamps = reception._Timestamps()
    steps = [0, 3000, 2**30, 2**31, 3 * 2**30, 2**32 + 50, 2**32 + 40]
    assert [timestamps.map((origin + step) % 2**32) for step in steps] == steps
    assert timestamps.relative((origin + 2**32 + 45) % 2**32) == 2**32 + 45


@pytest.mark.parametrize(
    ("codec", "data", "key"),
    [
        ("vp8", b"\x10\x00", True),
        ("vp8", b"\x11\x00", False),
        ("h264", b"\x00\x00\x00\x01\x67\x42\x00\x00\x01\x65", True),
        ("h264", b"\x00\x00\x00\x01\x09\xf0\x00\x00\x01\x65\x88", True),
        ("h264", b"\x00\x00\x00\x01\x41\x9a", False),
        ("opus", b"\xfc", True),
    ],
)
def test_key_frames_are_recognised(codec: str, data: bytes, key: bool) -> None:
    assert reception._is_key(codec, data) is key


class Line:
    """Two real connections on loopback; ``near`` receives what ``far`` sends."""

    def __init__(self, near: RTCPeerConnection, far: RTCPeerConnection, media: IncomingMedia) -> None:
        self.near, self.far, self.media = near, far, media
        self.pictures: Fanout[av.VideoFrame] = Fanout()
        self.firsts: list[FirstPicture] = []
        self.receiving: reception.Receiving
        self._number = 0

    def draw(self, width: int = 320, height: int = 240) -> None:
        """Send one picture."""
        self._number += 1
        image = np.full((height, width, 3), self._number % 255, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self._number * 3000, VIDEO_TIME_BASE
        self.pictures.put(frame)

    async def until(self, condition: Callable[[], object]) -> None:
        """Keep sending pictures until something holds."""
        async with asyncio.timeout(10):
            while not condition():
                self.draw()
                await asyncio.sleep(0.02)


@asynccontextmanager
async def line(codec: str = "vp8", limit: int = 1_000_000) -> AsyncIterator[Line]:
    near, far = engine.open_peer_connection(), engine.open_peer_connection()
    firsts: list[FirstPicture] = []
    media = IncomingMedia(firsts.append)
    made = Line(near, far, media)
    made.firsts = firsts
    track: MediaStreamTrack = OutgoingVideo(made.pictures, (320, 240))
    sender = far.addTransceiver(track, direction="sendonly")
    known = [c for c in sender.sender.getCapabilities("video").codecs if c.name.lower() in (codec, "rtx")]
    sender.setCodecPreferences(known)
    await far.setLocalDescription(await far.createOffer())
    await near.setRemoteDescription(far.localDescription)
    receiver = near.getTransceivers()[0].receiver
    made.receiving = reception.Receiving(receiver, media.video)
    await near.setLocalDescription(await near.createAnswer())
    await far.setRemoteDescription(near.localDescription)
    engine.bound_bitrate(sender.sender, codec, limit)
    try:
        await until(lambda: near.connectionState == far.connectionState == "connected")
        yield made
    finally:
        track.stop()
        await asyncio.gather(engine.close(near), engine.close(far))


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_the_first_picture_is_decoded_and_told_and_no_other_if_nobody_looks(codec: str) -> None:
    async with line(codec) as made:
        await made.until(lambda: made.media.video.counters.frames >= 20)
        assert made.firsts == [FirstPicture(320, 240, codec)]
        assert made.media.video.counters.decoded < 5
        assert made.near.getReceivers()[0].track._queue.__class__ is reception._DecodedFrames


async def test_a_reader_starts_the_decoder_at_a_key_frame_it_asks_for() -> None:
    async with line() as made:
        await made.until(lambda: made.media.video.counters.frames >= 10)
        with made.media.video.frames.read() as reader:
            waiting = asyncio.ensure_future(reader.get())
            await made.until(waiting.done)
            assert (await waiting).width == 320
        assert made.media.video.counters.skipped >= 1, "it did not wait for a key frame"
        decoded = made.media.video.counters.decoded
        frames = made.media.video.counters.frames
        await made.until(lambda: made.media.video.counters.frames >= frames + 20)
        assert made.media.video.counters.decoded <= decoded + 3, "the last reader went, and decoding went on"


async def test_encoded_packets_carry_what_a_recording_needs() -> None:
    async with line() as made:
        with made.media.encoded.read(50) as reader:
            await made.until(lambda: made.media.video.counters.frames >= 5)
            frames = [await reader.get() for _ in range(5)]
    assert [f.codec for f in frames] == ["vp8"] * 5
    assert frames[0].key
    assert all(later.timestamp > sooner.timestamp for sooner, later in itertools.pairwise(frames))
    assert frames[0].clock_rate == 90_000


async def test_sender_reports_put_a_wall_clock_on_packets() -> None:
    async with line() as made:
        with made.media.encoded.read(1) as reader:
            async with asyncio.timeout(10):
                while True:
                    waiting = asyncio.ensure_future(reader.get())
                    await made.until(waiting.done)
                    if (frame := waiting.result()).ntp is not None:
                        break
    assert abs(frame.ntp - time.time()) < 5


async def test_datagrams_are_counted_and_a_close_in_good_order_is_told_from_a_loss() -> None:
    async with line() as made:
        live = engine.Liveness(made.near)
        before = live.datagrams
        await made.until(lambda: live.datagrams > before)
        assert not live.closed_by_remote
        await made.far.close()
        await until(lambda: made.near.getTransceivers()[0].receiver.transport.state == "closed")
        assert live.closed_by_remote


async def test_our_own_close_is_not_taken_for_the_remotes() -> None:
    async with line() as made:
        live = engine.Liveness(made.near)
        await engine.ice_connection(made.near).close()
        await until(lambda: made.near.getTransceivers()[0].receiver.transport.state == "closed")
        assert not live.closed_by_remote


@pytest.mark.parametrize("codec", ["vp8", "h264"])
async def test_a_receivers_estimate_does_not_lift_the_limit(codec: str) -> None:
    async with line(codec, limit=700_000) as made:
        encoder: Any = made.far.getSenders()[0]._RTCRtpSender__encoder  # type: ignore[attr-defined]
        encoder.target_bitrate = 9_000_000
        assert encoder.target_bitrate == 700_000
        encoder.target_bitrate = 300_000
        assert encoder.target_bitrate == 300_000
        await made.until(lambda: made.media.video.counters.frames >= 3)
        assert encoder.codec is not None, "the engine uses an encoder of its own"
        assert encoder.codec.bit_rate == 300_000


async def test_a_packet_that_is_lost_for_good_freezes_the_picture_for_a_moment_only() -> None:
    """Without the hook: until the jitter buffer is full, half a minute at one packet a picture."""
    async with line() as made:
        await made.until(lambda: made.media.video.counters.frames >= 5)
        sender = made.far.getSenders()[0]
        transport, lose = sender.transport, 1
        send = transport._send_rtp

        async def lossy(data: bytes) -> None:
            nonlocal lose
            is_rtp = data[1] & 0x7F < 64 or data[1] & 0x7F >= 96  # RFC 5761 4
            ssrc = int.from_bytes(data[8:12])
            if is_rtp and ssrc == sender._rtx_ssrc:
                return
            if is_rtp and ssrc == sender._ssrc and lose:
                lose -= 1
                return
            await send(data)

        transport._send_rtp = lossy  # type: ignore[method-assign]
        with made.media.video.frames.read() as reader:
            await made.until(lambda: lose == 0)
            transport._send_rtp = send  # type: ignore[method-assign]
            while reader.get_nowait():
                pass
            lost_at, seen = time.monotonic(), made.media.video.counters.decoded
            await made.until(lambda: made.media.video.counters.decoded > seen + 3)
        assert time.monotonic() - lost_at < 3


async def test_a_bye_ends_nothing() -> None:
    """Without the hook: the engine stops decoding for good, and the connection stays."""
    from aiortc.rtp import RtcpByePacket

    async with line() as made:
        await made.until(lambda: made.firsts)
        sender = made.far.getSenders()[0]
        await sender.transport._send_rtp(bytes(RtcpByePacket(sources=[sender._ssrc])))
        frames = made.media.video.counters.frames
        await made.until(lambda: made.media.video.counters.frames > frames + 5)


async def test_an_empty_datagram_from_a_stranger_ends_nothing() -> None:
    """Without the hook: the engine looks at its first octet, and its transport is gone."""
    import socket

    async with line() as made:
        live = engine.Liveness(made.near)
        for protocol in engine.ice_connection(made.near)._protocols:
            address = (protocol.local_candidate.host, protocol.local_candidate.port)
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as stranger:
                stranger.sendto(b"", address)
        seen = live.datagrams
        await made.until(lambda: live.datagrams > seen + 5)
        assert made.near.connectionState == "connected"


async def test_more_streams_than_a_report_has_room_for_are_not_listened_to() -> None:
    """Without the hook: the engine's report task dies, and closing waits for it for ever."""
    async with line() as made:
        await made.until(lambda: made.firsts)
        receiver: Any = made.near.getReceivers()[0]
        sender = made.far.getSenders()[0]
        payload_type = made.far.getTransceivers()[0]._codecs[0].payloadType
        for number in range(60):
            stray = RtpPacket(payload_type=payload_type, sequence_number=1, timestamp=0, ssrc=1000 + number)
            stray.payload = b"\x10\x00\x00"
            await sender.transport._send_rtp(stray.serialize(sender._RTCRtpSender__rtp_header_extensions_map))  # type: ignore[attr-defined]
        frames = made.media.video.counters.frames
        await made.until(lambda: made.media.video.counters.frames > frames + 3)
        assert len(receiver._RTCRtpReceiver__remote_streams) <= reception.MAX_SSRCS


class _Never(asyncio.Event):
    def set(self) -> None:
        """Not any more."""


async def _closed() -> None:
    """Stands in for a ``close`` that would wait for ever."""


async def test_a_connection_whose_task_died_is_taken_apart(caplog: pytest.LogCaptureFixture) -> None:
    async with line() as made:
        await made.until(lambda: made.firsts)
        tasks = asyncio.all_tasks()
        receiver: Any = made.near.getReceivers()[0]
        receiver._RTCRtpReceiver__rtcp_exited = _Never()  # the task that would set it is dead
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine, "CLOSE_TIMEOUT", 0.2)
            await engine.close(made.near)
        assert "taken apart" in caplog.text
        assert engine.ice_connection(made.near)._protocols == []
        assert len(asyncio.all_tasks()) < len(tasks)
        made.near.close = _closed  # type: ignore[method-assign]


async def test_loss_is_that_of_the_media_stream() -> None:
    async with line() as made:
        await made.until(lambda: made.media.video.counters.frames >= 10)
        receiving = made.receiving
        assert receiving.received >= 10
        assert receiving.lost == 0


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
        await made.until(lambda: made.firsts)
    await until(lambda: not [t for t in threading.enumerate() if t.name == "video-decoder"])


async def test_an_rsa_certificate_can_be_met() -> None:
    """As DTLS client the engine offers no suite that an RSA certificate could sign; ours does."""
    connection = engine.open_peer_connection()
    certificate = connection._RTCPeerConnection__certificates[0]  # type: ignore[attr-defined]
    from aiortc.rtcdtlstransport import SRTP_PROFILES
    from OpenSSL import SSL

    context = certificate._create_ssl_context(srtp_profiles=SRTP_PROFILES)
    suites = SSL.Connection(context).get_cipher_list()
    assert "ECDHE-RSA-AES128-GCM-SHA256" in suites
    assert "ECDHE-ECDSA-AES128-GCM-SHA256" in suites
    await connection.close()


def test_the_marker_bit_is_read_from_the_wire() -> None:
    header = struct.pack("!BBHII", 0x80, 0x80 | 97, 7, 1234, 99)
    assert RtpPacket.parse(header + b"x").marker == 1
