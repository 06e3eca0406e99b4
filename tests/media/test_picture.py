"""The shape of pictures inside of the program."""

from __future__ import annotations

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from peer.media import picture
from peer.media.frames import VIDEO_TIME_BASE
from peer.media.test_pattern import Pattern


@pytest.mark.parametrize(
    ("size", "wish", "sent"),
    [
        ((641, 361), None, (640, 360)),
        ((1280, 720), (1280, 720), (1280, 720)),
        ((1920, 1080), (1280, 720), (1280, 720)),
        ((1280, 960), (1280, 720), (960, 720)),
        ((320, 240), (1280, 720), (320, 240)),
        ((720, 1280), (1280, 720), (404, 720)),
    ],
)
def test_sizes_are_even_within_the_wish_and_keep_their_shape(
    size: tuple[int, int], wish: tuple[int, int] | None, sent: tuple[int, int]
) -> None:
    assert picture.even_size(*size, wish) == sent


@pytest.mark.parametrize("layout", ["yuyv422", "yuvj422p", "nv12", "rgb24", "gray", "yuv420p"])
def test_every_camera_format_becomes_yuv420p_on_the_media_clock(layout: str) -> None:
    raw = av.VideoFrame(642, 482, layout)
    raw.pict_type = PictureType.I
    shaped = picture.normalize(raw, 1.5)
    assert (shaped.width, shaped.height, shaped.format.name) == (642, 482, "yuv420p")
    assert shaped.pict_type == PictureType.NONE
    assert (shaped.pts, shaped.time_base) == (135_000, VIDEO_TIME_BASE)


def test_full_range_levels_become_those_of_video() -> None:
    white = av.VideoFrame.from_ndarray(np.full((96, 64), 255, np.uint8), format="yuvj420p")
    white.color_range = 2
    assert picture.normalize(white, 0).to_ndarray(format="yuv420p")[:64].max() == 235


def test_a_source_that_changes_its_size_or_levels_is_converted_by_its_new_ones() -> None:
    for width, white, levels in ((64, 255, 2), (96, 235, 1), (64, 235, 1), (64, 255, 2)):
        raw = av.VideoFrame.from_ndarray(np.full((96, width), white, np.uint8), format="yuv420p")
        raw.color_range = levels
        shaped = picture.normalize(raw, 0)
        assert shaped.width == width
        assert {*shaped.to_ndarray(format="yuv420p")[:64].flat} == {235}


@pytest.mark.parametrize(("width", "height"), [(640, 360), (322, 242), (66, 64)])
def test_a_copy_shows_the_same_and_is_its_own(width: int, height: int) -> None:
    original = Pattern(width, height, 30).draw(7, 7)
    copy = picture.copy(original, 99)
    assert np.array_equal(copy.to_ndarray(), original.to_ndarray())
    copy.pict_type = PictureType.I
    assert (original.pict_type, original.pts, copy.pts) == (PictureType.NONE, 21_000, 99)


def test_a_card_is_dark_with_writing_on_it() -> None:
    grey = picture.card(320, 180, "NO PICTURE").to_ndarray(format="gray")
    assert grey.shape == (180, 320)
    assert np.median(grey) < 60
    assert (grey > 120).mean() > 0.005


def test_the_encoder_chooses_its_key_frames() -> None:
    """A contract of libvpx in PyAV: it obeys the picture type that a decoder left in the frame."""
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 180, "yuv420p"
    encoder.time_base, encoder.options = VIDEO_TIME_BASE, {"deadline": "realtime", "lag-in-frames": "0"}
    canvas = Pattern(320, 180, 30)

    def keys(first: int, *, stamped: bool) -> int:
        count = 0
        for n in range(first, first + 10):
            frame = canvas.draw(n)
            frame.pict_type = PictureType.I
            frame = picture.stamp(frame, n / 30) if stamped else frame
            count += sum(packet.is_keyframe for packet in encoder.encode(frame))
        return count

    assert keys(0, stamped=True) == 1
    assert keys(10, stamped=False) == 10
