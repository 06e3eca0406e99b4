"""Encoders as they are set: what they make, how much of it, and which one is taken."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest

from peer.codecs.h264 import IDR, PPS, SPS, nal_units
from peer.codecs.h264_sps import parse_sps
from peer.media.frames import VIDEO_TIME_BASE
from peer.media.outgoing import encoder
from peer.media.outgoing.encoder import Coded, VideoEncoder

SIZE = (640, 360)


def scene(n: int, moving: np.ndarray[Any, Any]) -> av.VideoFrame:
    """A picture with more in it than the bitrate has room for."""
    image = np.roll(moving, n * 7, axis=1)[: SIZE[1], : SIZE[0]]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray").reformat(format="yuv420p")
    frame.pts, frame.time_base = n * 3000, VIDEO_TIME_BASE
    frame.pict_type = av.video.frame.PictureType.NONE
    return frame


@pytest.fixture(scope="module")
def moving() -> np.ndarray[Any, Any]:
    rough = np.random.default_rng(1).integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8), np.uint8)
    return np.kron(rough, np.ones((8, 8), np.uint8))


def code(
    made: VideoEncoder, moving: np.ndarray[Any, Any], count: int, keys: frozenset[int] = frozenset()
) -> list[Coded]:
    return [coded for n in range(count) for coded in made.encode(scene(n, moving), key=n in keys)]


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_each_picture_comes_at_once_and_key_frames_only_when_asked_for(
    codec: str, moving: np.ndarray[Any, Any]
) -> None:
    made = VideoEncoder(codec, *SIZE, 30, 700_000)
    coded = code(made, moving, 40, keys=frozenset({25}))
    assert [frame.pts for frame in coded] == [n * 3000 for n in range(40)]
    assert [n for n, frame in enumerate(coded) if frame.key] == [0, 25]


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_the_bitrate_is_kept(codec: str, moving: np.ndarray[Any, Any]) -> None:
    made = VideoEncoder(codec, *SIZE, 30, 700_000)
    coded = code(made, moving, 120)[30:]
    bitrate = sum(len(frame.data) for frame in coded) * 8 / (len(coded) / 30)
    assert 400_000 < bitrate < 850_000


def test_vp8_keeps_a_bitrate_that_its_worst_picture_is_too_large_for_by_fewer_pictures() -> None:
    chance = np.random.default_rng(2)
    made, late = VideoEncoder("vp8", *SIZE, 30, 300_000), []
    for n in range(240):
        coded = made.encode(scene(n, chance.integers(0, 255, SIZE[::-1], np.uint8)), key=False)
        late += [frame for frame in coded if n >= 90]
    assert sum(len(frame.data) for frame in late) * 8 / 5 < 345_000
    assert late, "it goes on"


def test_h264_is_constrained_baseline_that_can_be_joined_at_each_key_frame(moving: np.ndarray[Any, Any]) -> None:
    coded = code(VideoEncoder("h264", *SIZE, 30, 700_000), moving, 10, keys=frozenset({5}))
    for frame in coded:
        units = {unit[0] & 0x1F: unit for unit in nal_units(frame.data)}
        assert frame.key == (IDR in units)
        if frame.key:
            assert PPS in units
            sps = parse_sps(units[SPS])
            assert (sps.profile_idc, sps.constraint_flags & 0x40) == (66, 0x40)
            assert (sps.width, sps.height, sps.max_reorder_frames or 0) == (*SIZE, 0)


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at the start of a program."""
    monkeypatch.setattr(encoder, "_tried", {})


def test_hardware_that_is_not_there_is_tried_once_and_software_taken(
    untried: None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    for _ in range(2):
        assert VideoEncoder("h264", *SIZE, 30, 700_000).name == "libx264"
    tried = [record.message.split()[1] for record in caplog.records if record.message.startswith("no h264_")]
    assert len(tried) == len(set(tried)) > 0, "this machine has none of them"


def test_hardware_is_left_alone_when_told_so(untried: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    assert VideoEncoder("h264", *SIZE, 30, 700_000, hardware=False).name == "libx264"
    assert "no h264_" not in caplog.text


def test_an_encoder_that_works_is_taken_until_it_fails(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """x264 under its other name stands in for hardware."""
    rgb = encoder._Choice("libx264rgb", {})
    monkeypatch.setattr(encoder, "_H264", (rgb, encoder._H264[-1]))
    monkeypatch.setattr(encoder, "_works", lambda choice: True)
    assert VideoEncoder("h264", *SIZE, 30, 700_000).name == "libx264", "it opens at no size: it takes no yuv420p"
    encoder._tried["libx264"] = True
    made = VideoEncoder("h264", *SIZE, 30, 700_000)
    broken = av.VideoFrame(*SIZE, "yuv420p")
    broken.pts, broken.time_base = 0, VIDEO_TIME_BASE
    made.encode(broken, key=False)
    with pytest.raises(av.FFmpegError):
        made._context.encode(None)
        made.encode(broken, key=False)
    assert encoder._tried["libx264"] is False


@pytest.mark.parametrize(
    ("name", "options", "works"),
    [
        ("libx264", {"tune": "zerolatency", "preset": "ultrafast"}, True),
        ("libx264", {"preset": "ultrafast"}, False),  # it keeps pictures back
        ("libx264", {"tune": "zerolatency", "preset": "ultrafast", "x264-params": "keyint=2"}, False),
        ("mpeg4", {}, False),  # no H.264 comes of it
        ("h264_v4l2m2m", {}, False),  # there is no such device
    ],
)
def test_only_an_encoder_that_does_what_it_must_is_taken(name: str, options: dict[str, str], works: bool) -> None:
    assert encoder._works(encoder._Choice(name, options)) is works
