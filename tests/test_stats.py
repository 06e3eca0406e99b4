"""Statistics of a call: rates, times and fractions of the last interval only."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import av
import pytest

from peer.media.frames import EncodedFrame
from peer.media.incoming.track import IncomingMedia
from peer.media.outgoing.track import OutgoingStats
from peer.media.outgoing.video_encoding import EncoderCounters
from peer.rtc.rtcp_stats import TransportStats
from peer.stats import StatsSampler


def transport(received: int = 0, lost: int = 0, sent: int = 0, rtt: float | None = None) -> Any:
    return TransportStats(rtt, {"video": received}, {"video": lost}, {"video": sent})


def frame(
    number: int, *, key: bool = True, kind: Any = "video", codec: str = "vp8", data: bytes = b""
) -> EncodedFrame:
    return EncodedFrame(kind, codec, data or bytes(1000), number * 3000, 90_000, key, 0.0, None)


@pytest.fixture
def media() -> IncomingMedia:
    return IncomingMedia(lambda first: None)


SENT = {
    *("sent_fps", "sent_codec", "sent_width", "sent_height"),
    *("encode_ms", "encoder_dropped", "sent_skipped", "passthrough"),
}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_unknown_values_are_omitted(media: IncomingMedia) -> None:
    clock = Clock()
    sampler = StatsSampler("door", media, clock)
    clock.now += 1
    stats = sampler.sample(transport())
    assert stats.video == {
        "kbps": 0,
        "sent_kbps": 0,
        "fps": 0.0,
        "freezes": 0,
        "dropped": {"network": 0, "decoder": 0, "waiting-for-key-frame": 0},
    }
    assert stats.audio == {"kbps": 0, "sent_kbps": 0, "dropped": {"network": 0, "decoder": 0}}
    assert stats.loss is None and stats.rtt_ms is None


def test_rates_are_those_of_the_interval(media: IncomingMedia) -> None:
    clock = Clock()
    sampler = StatsSampler("door", media, clock)
    for _ in range(2):
        for _ in range(60):
            media.video.count_unneeded("vp8", 1000, new_frame=True)
        clock.now += 2
        stats = sampler.sample(transport(received=0))
        assert stats.video["fps"] == 30.0
        assert stats.video["kbps"] == 240
        assert stats.video["codec"] == "vp8"


def test_loss_after_reconnect_starts_at_zero(media: IncomingMedia) -> None:
    clock = Clock()
    sampler = StatsSampler("door", media, clock)
    assert sampler.sample(transport(90, 10, 125_000, 0.0123)).loss == 0.1
    clock.now += 1
    stats = sampler.sample(transport(190, 10, 250_000, 0.0123))
    assert stats.loss == 0.0
    assert stats.rtt_ms == 12.3
    assert stats.video["sent_kbps"] == 1000
    assert sampler.sample(transport(5, 0, 0)).loss is None


def test_dropped_frames_are_counted_by_reason(media: IncomingMedia) -> None:
    clock = Clock()
    sampler = StatsSampler("door", media, clock)
    media.video.report_loss(2)
    media.video.put(frame(1, key=False))  # the first frame to decode must be a key frame
    media.audio.report_loss(5)
    stats = sampler.sample(transport())
    assert stats.video["dropped"] == {"network": 2, "decoder": 0, "waiting-for-key-frame": 1}
    assert stats.audio["dropped"] == {"network": 5, "decoder": 0}
    assert sampler.sample(transport()).video["dropped"] == {"network": 0, "decoder": 0, "waiting-for-key-frame": 0}


async def test_decoded_video_reports_size_and_decoding_time(media: IncomingMedia) -> None:
    encoder: Any = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 240, "yuv420p"
    encoder.options = {"lag-in-frames": "0", "deadline": "realtime"}
    coded = [bytes(packet) for packet in encoder.encode(av.VideoFrame(320, 240, "yuv420p"))]
    clock = Clock()
    sampler = StatsSampler("door", media, clock)
    media.video.counters.jitter = 0.0042
    with media.video.frames.read() as reader:
        media.video.put(frame(1, data=coded[0]))
        async with asyncio.timeout(10):
            await reader.get()
    stats = sampler.sample(transport())
    assert (stats.video["width"], stats.video["height"]) == (320, 240)
    assert 0 < stats.video["decode_ms"] < 5000
    assert stats.video["jitter_ms"] == 4.2
    assert "decode_ms" not in sampler.sample(transport()).video
    media.close()


def test_outgoing_values_appear_only_while_video_is_sent(media: IncomingMedia) -> None:
    clock = Clock()
    sampler = StatsSampler("door", media, clock)
    counters = EncoderCounters(frames=30, seconds=0.3, dropped=2)
    sent = OutgoingStats("h264", 960, 540, 60, 100_000, 1, False, 4, counters)
    clock.now += 2
    video = sampler.sample(replace(transport(), video=sent)).video
    assert {name: value for name, value in video.items() if name in SENT} == {
        "sent_fps": 30.0,
        "sent_codec": "h264",
        "sent_width": 960,
        "sent_height": 540,
        "encode_ms": 10.0,
        "encoder_dropped": 2,
        "sent_skipped": 4,
        "passthrough": False,
    }
    clock.now += 1
    video = sampler.sample(
        replace(transport(), video=replace(sent, encoder=EncoderCounters(), passthrough=True))
    ).video
    assert video["passthrough"] and "encode_ms" not in video and video["sent_fps"] == 0.0
    assert not SENT & sampler.sample(transport()).video.keys()
