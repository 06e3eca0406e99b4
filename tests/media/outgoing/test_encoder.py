"""Video encoders: key frames, bitrate, and the selection of an encoder that works."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest

from peer.codecs.h264 import IDR, PPS, SPS, nal_units
from peer.codecs.h264_sps import parse_sps
from peer.media.frames import VIDEO_TIME_BASE
from peer.media.outgoing import encoder
from peer.media.outgoing.encoder import EncodedPacket, VideoEncoder

SIZE = (640, 360)


def scene(n: int, moving: np.ndarray[Any, Any]) -> av.VideoFrame:
    """Return a frame with more detail than the bitrate allows."""
    image = np.roll(moving, n * 7, axis=1)[: SIZE[1], : SIZE[0]]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray").reformat(format="yuv420p")
    frame.pts, frame.time_base = n * 3000, VIDEO_TIME_BASE
    frame.pict_type = av.video.frame.PictureType.NONE
    return frame


@pytest.fixture(scope="module")
def moving() -> np.ndarray[Any, Any]:
    rough = np.random.default_rng(1).integers(0, 255, (SIZE[1] // 8, SIZE[0] // 8), np.uint8)
    return np.kron(rough, np.ones((8, 8), np.uint8))


def encode(
    video_encoder: VideoEncoder, moving: np.ndarray[Any, Any], count: int, keys: frozenset[int] = frozenset()
) -> list[EncodedPacket]:
    return [packet for n in range(count) for packet in video_encoder.encode(scene(n, moving), key=n in keys)]


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_frames_have_no_delay_and_key_frames_are_on_request(codec: str, moving: np.ndarray[Any, Any]) -> None:
    made = VideoEncoder(codec, *SIZE, 30, 700_000)
    packets = encode(made, moving, 40, keys=frozenset({25}))
    assert [packet.pts for packet in packets] == [n * 3000 for n in range(40)]
    assert [n for n, packet in enumerate(packets) if packet.key] == [0, 25]


@pytest.mark.parametrize("codec", ["vp8", "h264"])
def test_bitrate_is_kept(codec: str, moving: np.ndarray[Any, Any]) -> None:
    made = VideoEncoder(codec, *SIZE, 30, 700_000)
    packets = encode(made, moving, 120)[30:]
    bitrate = sum(len(packet.data) for packet in packets) * 8 / (len(packets) / 30)
    assert 400_000 < bitrate < 850_000


def test_vp8_drops_frames_to_keep_a_low_bitrate() -> None:
    chance = np.random.default_rng(2)
    made, late = VideoEncoder("vp8", *SIZE, 30, 300_000), []
    for n in range(240):
        packets = made.encode(scene(n, chance.integers(0, 255, SIZE[::-1], np.uint8)), key=False)
        late += [packet for packet in packets if n >= 90]
    assert sum(len(packet.data) for packet in late) * 8 / 5 < 345_000
    assert late, "no frames at all"


def test_h264_is_constrained_baseline_with_sps_in_key_frames(moving: np.ndarray[Any, Any]) -> None:
    packets = encode(VideoEncoder("h264", *SIZE, 30, 700_000), moving, 10, keys=frozenset({5}))
    for packet in packets:
        units = {unit[0] & 0x1F: unit for unit in nal_units(packet.data)}
        assert packet.key == (IDR in units)
        if packet.key:
            assert PPS in units
            sps = parse_sps(units[SPS])
            assert (sps.profile_idc, sps.constraint_flags & 0x40) == (66, 0x40)
            assert (sps.width, sps.height, sps.max_reorder_frames or 0) == (*SIZE, 0)


@pytest.mark.parametrize("size", [SIZE, (1920, 1080)])
def test_h264_slices_are_limited_and_decodable(size: tuple[int, int]) -> None:
    """Noise makes the largest slices. The larger size has two threads."""
    chance, maximum = np.random.default_rng(3), 1000
    made = VideoEncoder("h264", *size, 30, 6_000_000, max_slice_size=maximum)
    decoder = av.CodecContext.create("h264", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    for n in range(6):
        noise = chance.integers(0, 255, (size[1] * 3 // 2, size[0]), np.uint8)
        frame = av.VideoFrame.from_ndarray(noise, format="yuv420p")
        frame.pts, frame.time_base = n * 3000, VIDEO_TIME_BASE
        [packet] = made.encode(frame, key=n == 3)
        assert packet.key == (n in (0, 3))
        assert max(map(len, nal_units(packet.data))) <= maximum
        [decoded] = decoder.decode(av.Packet(packet.data))
        assert (decoded.width, decoded.height) == size


class FakeProbe:
    """A stand-in for ``EncoderProbe``: the encoders in ``names`` work."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.asked: list[str] = []

    def works(self, name: str) -> bool:
        self.asked.append(name)
        return name in self.names

    def disable(self, name: str) -> None:
        self.names.discard(name)


def test_limited_slices_are_encoded_in_software(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = FakeProbe()
    monkeypatch.setattr(encoder, "_probe", probe)
    assert VideoEncoder("h264", *SIZE, 30, 700_000, max_slice_size=1000).name == "libx264"
    assert probe.asked == []


def test_software_is_used_where_no_hardware_works(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = FakeProbe()
    monkeypatch.setattr(encoder, "_probe", probe)
    assert VideoEncoder("h264", *SIZE, 30, 700_000).name == "libx264"
    assert probe.asked == ["h264_nvenc", "h264_qsv", "h264_v4l2m2m"]


def test_hardware_that_is_not_allowed_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    probe = FakeProbe()
    monkeypatch.setattr(encoder, "_probe", probe)
    assert VideoEncoder("h264", *SIZE, 30, 700_000, hardware=False).name == "libx264"
    assert probe.asked == []


def test_working_encoder_is_used_until_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """An x264 encoder of another name stands in for hardware."""
    probe = FakeProbe("libx264rgb", "libx264")
    rgb = encoder._EncoderSpec("libx264rgb", {})
    monkeypatch.setattr(encoder, "_H264", (rgb, encoder._H264[-1]))
    monkeypatch.setattr(encoder, "_probe", probe)
    assert VideoEncoder("h264", *SIZE, 30, 700_000).name == "libx264", (
        "the other one does not open, because it rejects yuv420p"
    )
    made = VideoEncoder("h264", *SIZE, 30, 700_000)
    broken = av.VideoFrame(*SIZE, "yuv420p")
    broken.pts, broken.time_base = 0, VIDEO_TIME_BASE
    made.encode(broken, key=False)
    with pytest.raises(av.FFmpegError):
        made._context.encode(None)
        made.encode(broken, key=False)
    assert "libx264" not in probe.names


@pytest.mark.parametrize(
    ("name", "options", "works"),
    [
        ("libx264", {"tune": "zerolatency", "preset": "ultrafast"}, True),
        ("libx264", {"preset": "ultrafast"}, False),  # it delays frames
        ("libx264", {"tune": "zerolatency", "preset": "ultrafast", "x264-params": "keyint=2"}, False),
        ("mpeg4", {}, False),  # not H.264
        ("h264_v4l2m2m", {}, False),  # no such device
    ],
)
def test_encoder_is_used_only_if_it_passes_the_trial(name: str, options: dict[str, str], works: bool) -> None:
    assert (encoder._problem(encoder._EncoderSpec(name, options)) is None) is works
