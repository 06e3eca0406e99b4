"""The scaling encoder: frame sizes, frame rates, and the frames that it accepts."""

from __future__ import annotations

from typing import Any

import av
import pytest

from peer.media import picture
from peer.media.frames import VIDEO_TIME_BASE
from peer.media.outgoing import scaling_encoder
from peer.media.outgoing.frame_rate import FrameRateEstimator
from peer.media.outgoing.quality_ladder import Rung
from peer.media.outgoing.scaling_encoder import ScalingEncoder


def frame(seconds: float, size: tuple[int, int] = (320, 180)) -> av.VideoFrame:
    return picture.stamp(picture.card(*size, ""), seconds)


def full_size(width: int, height: int) -> Rung:
    return Rung(width, height, 30, 200_000)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Codec, width, height and frame rate of each encoder that was opened."""
    calls: list[tuple[Any, ...]] = []
    open_encoder = scaling_encoder.VideoEncoder

    def record(*args: Any, **options: Any) -> Any:
        calls.append(args[:4])
        return open_encoder(*args, **options)

    monkeypatch.setattr(scaling_encoder, "VideoEncoder", record)
    return calls


def make(codec: str, rung_for_size: Any = full_size) -> ScalingEncoder:
    return ScalingEncoder(codec, rung_for_size, hardware=False, frame_rate=FrameRateEstimator())


def test_frames_of_one_size_share_an_encoder(opened: list[tuple[Any, ...]]) -> None:
    encoder = make("vp8")
    for number in range(3):
        packets, size = encoder.encode(frame(number / 30), number * 3000, False)
        assert [packet.pts for packet in packets] == [number * 3000] and size == (320, 180)
    assert opened == [("vp8", 320, 180, 30)]


def test_new_size_opens_a_new_encoder(opened: list[tuple[Any, ...]]) -> None:
    encoder = make("vp8")
    encoder.encode(frame(0), 0, False)
    packets, size = encoder.encode(frame(1, (160, 90)), 90_000, False)
    assert packets[0].key and size == (160, 90)
    assert opened == [("vp8", 320, 180, 30), ("vp8", 160, 90, 30)]


def test_frame_is_scaled_and_not_modified() -> None:
    encoder, original = make("vp8", lambda width, height: Rung(160, 90, 30, 200_000)), frame(1)
    packets, size = encoder.encode(original, 123, True)
    assert (packets[0].pts, size) == (123, (160, 90))
    assert (original.width, original.height, original.pts) == (320, 180, round(1 / VIDEO_TIME_BASE))


@pytest.mark.parametrize(("codec", "rates"), [("h264", [30, 60]), ("vp8", [30])])
def test_only_h264_adapts_to_the_frame_rate(opened: list[tuple[Any, ...]], codec: str, rates: list[int]) -> None:
    encoder = make(codec)
    for number in range(130):
        encoder.encode(frame(number / 60, (64, 64)), number * 1500, False)
    assert [fps for *_, fps in opened] == rates


def test_frame_rate_is_limited_where_the_rung_demands_it() -> None:
    limited = make("vp8", lambda width, height: Rung(width, height, 15, 200_000, limits_frame_rate=True))
    unlimited = make("vp8")
    frames = [frame(number / 30) for number in range(6)]
    assert [limited.accepts(each) for each in frames] == [True, False] * 3
    assert all(unlimited.accepts(each) for each in frames)


def test_frame_without_a_time_is_accepted() -> None:
    encoder = make("vp8", lambda width, height: Rung(width, height, 15, 200_000, limits_frame_rate=True))
    assert encoder.accepts(av.VideoFrame(320, 180, "yuv420p"))
