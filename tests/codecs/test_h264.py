"""H.264 bitstreams that x264 wrote, compared with FFmpeg, and malformed ones."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from av.bitstream import BitStreamFilterContext
from av.video.frame import PictureType
from hypothesis import given
from hypothesis import strategies as st

from peer.codecs.h264 import START_CODE, AnnexBConverter, is_b_slice, nal_units
from peer.codecs.h264_sps import parse_sps
from tests.codecs.demux import read_packets
from tests.media.clips import write_h264


def _kinds(data: bytes) -> list[int]:
    return [unit[0] & 31 for unit in nal_units(data)]


def test_is_b_slice_agrees_with_ffmpeg(tmp_path: Path) -> None:
    _, packets = read_packets(write_h264(tmp_path / "clip.h264", seconds=1, profile="high", b_frames=2))
    slices = [next(u for u in nal_units(bytes(packet)) if u[0] & 31 in (1, 5)) for packet in packets]
    with av.open(str(tmp_path / "clip.h264")) as container:
        kinds = [frame.pict_type for frame in container.decode(video=0)]
    assert 0 < kinds.count(PictureType.B) == sum(map(is_b_slice, slices))


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "flv", "ts", "h264"])
def test_converted_container_decodes_from_each_key_frame(tmp_path: Path, suffix: str) -> None:
    extradata, packets = read_packets(write_h264(tmp_path / f"clip.{suffix}", seconds=2, gop=10))
    converter = AnnexBConverter(extradata)
    frames = [converter.convert(bytes(packet)) for packet in packets]
    keys = [index for index, (_, key) in enumerate(frames) if key]
    assert keys == [0, 10, 20, 30, 40]
    for start in keys:
        decoder = av.CodecContext.create("h264", "r")
        decoded = [p for data, _ in frames[start : start + 10] for p in decoder.decode(av.Packet(data))]
        assert len(decoded + decoder.decode(None)) == 10
    kinds = {kind for data, _ in frames for kind in _kinds(data)}
    assert kinds <= {1, 5, 6, 7, 8}


def test_converted_mp4_equals_the_output_of_ffmpegs_filter(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=1, gop=10)
    extradata, packets = read_packets(clip)
    converter = AnnexBConverter(extradata)
    ours = [list(nal_units(converter.convert(bytes(packet))[0])) for packet in packets]
    with av.open(str(clip)) as container:
        annexb = BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
        theirs = [list(nal_units(bytes(out))) for p in container.demux(video=0) if p.size for out in annexb.filter(p)]
    assert [sorted(unit) for unit in ours] == [sorted(unit) for unit in theirs]


def test_changed_parameter_set_replaces_the_earlier_one(tmp_path: Path) -> None:
    _, small = read_packets(write_h264(tmp_path / "small.h264", seconds=0.2))
    _, large = read_packets(write_h264(tmp_path / "large.h264", seconds=0.2, size=(640, 360)))
    converter = AnnexBConverter(b"")
    converter.convert(bytes(small[0]))
    converter.convert(bytes(large[0]))
    bare = b"".join(START_CODE + unit for unit in nal_units(bytes(large[0])) if unit[0] & 31 == 5)
    data, key = converter.convert(bare)
    assert key
    assert list(dict.fromkeys(_kinds(data))) == [7, 8, 5]
    assert parse_sps(next(nal_units(data))).width == 640


def test_idr_is_a_key_frame_only_with_parameter_sets(tmp_path: Path) -> None:
    _, packets = read_packets(write_h264(tmp_path / "clip.h264", seconds=0.1))
    first = list(nal_units(bytes(packets[0])))
    sets = b"".join(START_CODE + unit for unit in first if unit[0] & 31 in (7, 8))
    idr = b"".join(START_CODE + unit for unit in first if unit[0] & 31 == 5)
    converter = AnnexBConverter(b"")
    assert converter.convert(idr) == (idr, False)
    assert converter.convert(sets) == (b"", False)
    assert converter.convert(idr) == (sets + idr, True)


def test_truncated_parameter_set_is_left_out() -> None:
    converter = AnnexBConverter(b"")
    converter.convert(b"\0\0\1\x68\xce\x3c\x80\0\0\1\x41\x9a")
    data, key = converter.convert(b"\0\0\1\x67\x42\0\0\1\x65\x88\x84")
    assert (_kinds(data), key) == ([8, 5], False)


@pytest.mark.parametrize("kind", [0, 24, 28, 31])
def test_unit_of_a_type_that_rtp_uses_is_dropped(kind: int) -> None:
    slice_ = b"\0\0\0\1\x41\x9a" + b"x" * 1300
    assert AnnexBConverter(b"").convert(slice_ + b"\0\0\0\1" + bytes([0x60 | kind]) + b"\x85\x88") == (slice_, False)


@given(st.binary(max_size=60), st.lists(st.binary(max_size=60), max_size=6))
def test_malformed_packets_never_raise(extradata: bytes, packets: list[bytes]) -> None:
    for head in (b"", b"\1"):
        converter = AnnexBConverter(head + extradata)
        for packet in packets:
            data, key = converter.convert(packet)
            assert not key or {5, 7, 8} <= set(_kinds(data))
        is_b_slice(extradata)
