"""H.264 as far as it is understood, against what x264 writes and FFmpeg reads, and against garbage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest
from av.bitstream import BitStreamFilterContext
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st

from peer.codecs import h264
from peer.codecs.h264 import AccessUnits, is_b_slice, nal_units, parameter_sets, parse_sps
from tests.media.clips import write_h264


def _packets(path: Path) -> tuple[bytes, list[Any]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        extradata = bytes(stream.codec_context.extradata or b"")
        return extradata, [packet for packet in container.demux(stream) if packet.size]


def _kinds(data: bytes) -> list[int]:
    return [unit[0] & 31 for unit in nal_units(data)]


@pytest.mark.parametrize(
    ("profile", "size", "b_frames", "options", "idc"),
    [
        ("baseline", (320, 180), 0, {}, 66),
        ("baseline", (98, 66), 0, {"x264-params": "nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500"}, 66),
        ("main", (1280, 720), 0, {"aspect": "4:3", "x264-params": "sar=200/199:colorprim=bt709:range=tv"}, 77),
        ("high", (1920, 1080), 2, {"x264-params": "cqm=jvt"}, 100),
    ],
)
def test_a_parameter_set_of_x264_is_understood(
    tmp_path: Path, profile: str, size: tuple[int, int], b_frames: int, options: dict[str, str], idc: int
) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=0.2, profile=profile, size=size, b_frames=b_frames, **options)
    extradata, _ = _packets(clip)
    sps = parse_sps(parameter_sets(extradata)[0])
    with av.open(str(clip)) as container:
        context = container.streams.video[0].codec_context
        assert (sps.width, sps.height, sps.level_idc) == (context.width, context.height, context.level)
    assert (sps.profile_idc, sps.interlaced) == (idc, False)
    assert (sps.reorder or 0) > 0 if b_frames else sps.reorder == 0
    assert sps.profile_level_id == extradata[1:4].hex()


def test_interlaced_pictures_are_known(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=0.2, profile="main", **{"x264-params": "interlaced=1"})
    sps = parse_sps(parameter_sets(_packets(clip)[0])[0])
    assert (sps.width, sps.height, sps.interlaced) == (320, 180, True)


def test_slices_between_pictures_are_told_from_others(tmp_path: Path) -> None:
    _, packets = _packets(write_h264(tmp_path / "clip.h264", seconds=1, profile="high", b_frames=2))
    slices = [next(u for u in nal_units(bytes(packet)) if u[0] & 31 in (1, 5)) for packet in packets]
    with av.open(str(tmp_path / "clip.h264")) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    assert 0 < kinds.count(PictureType.B) == sum(map(is_b_slice, slices))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts", "h264"])
def test_every_container_gives_what_decodes_from_each_key_frame(tmp_path: Path, suffix: str) -> None:
    extradata, packets = _packets(write_h264(tmp_path / f"clip.{suffix}", seconds=2, gop=10))
    units = AccessUnits(extradata)
    frames = [units.convert(bytes(packet)) for packet in packets]
    keys = [index for index, (_, key) in enumerate(frames) if key]
    assert keys == [0, 10, 20, 30, 40]
    for start in keys:
        decoder = av.CodecContext.create("h264", "r")
        decoded = [p for data, _ in frames[start : start + 10] for p in decoder.decode(av.Packet(data))]
        assert len(decoded + decoder.decode(None)) == 10
    kinds = {kind for data, _ in frames for kind in _kinds(data)}
    assert kinds <= {1, 5, 6, 7, 8}


def test_what_comes_out_of_mp4_is_what_ffmpegs_filter_makes(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=1, gop=10)
    extradata, packets = _packets(clip)
    units = AccessUnits(extradata)
    ours = [list(nal_units(units.convert(bytes(packet))[0])) for packet in packets]
    with av.open(str(clip)) as container:
        annexb = BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
        theirs = [list(nal_units(bytes(out))) for p in container.demux(video=0) if p.size for out in annexb.filter(p)]
    assert [sorted(unit) for unit in ours] == [sorted(unit) for unit in theirs]


def test_a_parameter_set_that_changes_on_the_way_is_the_one_that_is_repeated(tmp_path: Path) -> None:
    _, small = _packets(write_h264(tmp_path / "small.h264", seconds=0.2))
    _, large = _packets(write_h264(tmp_path / "large.h264", seconds=0.2, size=(640, 360)))
    units = AccessUnits(b"")
    units.convert(bytes(small[0]))
    units.convert(bytes(large[0]))
    bare = b"".join(h264.START_CODE + unit for unit in nal_units(bytes(large[0])) if unit[0] & 31 == 5)
    data, key = units.convert(bare)
    assert key
    assert list(dict.fromkeys(_kinds(data))) == [7, 8, 5]
    assert parse_sps(next(nal_units(data))).width == 640


def test_a_key_frame_without_parameter_sets_is_none_and_sets_alone_are_no_picture(tmp_path: Path) -> None:
    _, packets = _packets(write_h264(tmp_path / "clip.h264", seconds=0.1))
    first = list(nal_units(bytes(packets[0])))
    sets = b"".join(h264.START_CODE + unit for unit in first if unit[0] & 31 in (7, 8))
    picture = b"".join(h264.START_CODE + unit for unit in first if unit[0] & 31 == 5)
    units = AccessUnits(b"")
    assert units.convert(picture) == (picture, False)
    assert units.convert(sets) == (b"", False)
    assert units.convert(picture) == (sets + picture, True)


def test_a_parameter_set_that_is_cut_short_is_none() -> None:
    units = AccessUnits(b"")
    units.convert(b"\0\0\1\x68\xce\x3c\x80\0\0\1\x41\x9a")
    data, key = units.convert(b"\0\0\1\x67\x42\0\0\1\x65\x88\x84")
    assert (_kinds(data), key) == ([8, 5], False)


@pytest.mark.parametrize("kind", [0, 24, 28, 31])
def test_a_unit_that_rtp_would_take_for_its_own_is_left_out(kind: int) -> None:
    slice_ = b"\0\0\0\1\x41\x9a" + b"x" * 1300
    assert AccessUnits(b"").convert(slice_ + b"\0\0\0\1" + bytes([0x60 | kind]) + b"\x85\x88") == (slice_, False)


_SPS = bytes.fromhex("6764001eacd940a02ff9610000030001000003003c0f162d96")


@given(st.binary(max_size=80))
def test_garbage_is_no_parameter_set(data: bytes) -> None:
    try:
        sps = parse_sps(data)
    except ValueError:
        return
    assert sps.width > 0
    assert sps.height > 0


@given(st.integers(0, len(_SPS) - 1), st.integers(0, 255), st.integers(1, len(_SPS)))
def test_a_damaged_parameter_set_is_refused_or_makes_sense(at: int, value: int, length: int) -> None:
    assert parse_sps(_SPS).width == 640
    try:
        sps = parse_sps((_SPS[:at] + bytes([value]) + _SPS[at + 1 :])[:length])
    except ValueError:
        return
    assert 0 < sps.width <= 16_384
    assert 0 < sps.height <= 16_384


@given(st.binary(max_size=60), st.lists(st.binary(max_size=60), max_size=6))
def test_garbage_in_a_container_costs_nothing_but_itself(extradata: bytes, packets: list[bytes]) -> None:
    for head in (b"", b"\1"):
        units = AccessUnits(head + extradata)
        for packet in packets:
            data, key = units.convert(packet)
            assert not key or {5, 7, 8} <= set(_kinds(data))
        is_b_slice(extradata)
