"""Conversion of video frames to the internal format."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from peer.media import picture
from peer.media.frames import VIDEO_TIME_BASE
from peer.media.test_pattern import Pattern


@pytest.mark.parametrize(
    ("size", "max_size", "expected"),
    [
        ((641, 361), None, (640, 360)),
        ((1280, 720), (1280, 720), (1280, 720)),
        ((1920, 1080), (1280, 720), (1280, 720)),
        ((1280, 960), (1280, 720), (960, 720)),
        ((320, 240), (1280, 720), (320, 240)),
        ((720, 1280), (1280, 720), (404, 720)),
    ],
)
def test_even_size_fits_maximum_and_keeps_aspect_ratio(
    size: tuple[int, int], max_size: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    assert picture.even_size(*size, max_size) == expected


@pytest.mark.parametrize("layout", ["yuyv422", "yuvj422p", "nv12", "rgb24", "gray", "yuv420p"])
def test_normalize_camera_format_becomes_stamped_yuv420p(layout: str) -> None:
    raw = av.VideoFrame(642, 482, layout)
    raw.pict_type = PictureType.I
    normalized = picture.normalize(raw, 1.5)
    assert (normalized.width, normalized.height, normalized.format.name) == (642, 482, "yuv420p")
    assert normalized.pict_type == PictureType.NONE
    assert (normalized.pts, normalized.time_base) == (135_000, VIDEO_TIME_BASE)


@pytest.mark.parametrize(
    ("pixel_aspect", "max_size", "expected"),
    [
        (Fraction(16, 11), None, (1046, 576)),
        (Fraction(10, 11), None, (654, 576)),
        (Fraction(16, 11), (720, 576), (720, 396)),
        (Fraction(200, 199), None, (720, 576)),
        (Fraction(9), None, (720, 576)),
    ],
)
def test_normalize_anamorphic_frame_has_square_pixels(
    pixel_aspect: Fraction, max_size: tuple[int, int] | None, expected: tuple[int, int]
) -> None:
    normalized = picture.normalize(av.VideoFrame(720, 576, "yuv420p"), 0, max_size, pixel_aspect)
    assert (normalized.width, normalized.height) == expected


def test_normalize_full_range_becomes_limited_range() -> None:
    white = av.VideoFrame.from_ndarray(np.full((96, 64), 255, np.uint8), format="yuvj420p")
    white.color_range = 2
    assert picture.normalize(white, 0).to_ndarray(format="yuv420p")[:64].max() == 235


def test_normalize_follows_a_change_of_size_or_range() -> None:
    for width, white, levels in ((64, 255, 2), (96, 235, 1), (64, 235, 1), (64, 255, 2)):
        raw = av.VideoFrame.from_ndarray(np.full((96, width), white, np.uint8), format="yuv420p")
        raw.color_range = levels
        normalized = picture.normalize(raw, 0)
        assert normalized.width == width
        assert {*normalized.to_ndarray(format="yuv420p")[:64].flat} == {235}


@pytest.mark.parametrize(("width", "height"), [(640, 360), (322, 242), (66, 64)])
def test_copy_has_same_content_and_own_attributes(width: int, height: int) -> None:
    original = Pattern(width, height, 30).draw(7, 7)
    copy = picture.copy(original, 99)
    assert np.array_equal(copy.to_ndarray(), original.to_ndarray())
    copy.pict_type = PictureType.I
    assert (original.pict_type, original.pts, copy.pts) == (PictureType.NONE, 21_000, 99)


def test_card_is_dark_with_bright_text() -> None:
    gray = picture.card(320, 180, "NO PICTURE").to_ndarray(format="gray")
    assert gray.shape == (180, 320)
    assert np.median(gray) < 60
    assert (gray > 120).mean() > 0.005


def test_stamped_frame_leaves_picture_type_to_the_encoder() -> None:
    """Contract of libvpx in PyAV: it follows the picture type that a decoder left in the frame."""
    encoder = av.CodecContext.create("libvpx", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 320, 180, "yuv420p"
    encoder.time_base, encoder.options = VIDEO_TIME_BASE, {"deadline": "realtime", "lag-in-frames": "0"}
    pattern = Pattern(320, 180, 30)

    def keys(first: int, *, stamped: bool) -> int:
        count = 0
        for n in range(first, first + 10):
            frame = pattern.draw(n)
            frame.pict_type = PictureType.I
            frame = picture.stamp(frame, n / 30) if stamped else frame
            count += sum(packet.is_keyframe for packet in encoder.encode(frame))
        return count

    assert keys(0, stamped=True) == 1
    assert keys(10, stamped=False) == 10
