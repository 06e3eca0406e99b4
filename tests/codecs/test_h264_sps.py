"""Parsing of sequence parameter sets that x264 wrote, compared with FFmpeg, and of malformed ones."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.codecs.h264 import parameter_sets
from peer.codecs.h264_sps import parse_sps
from tests.codecs.bits import se, to_bytes, ue
from tests.codecs.demux import read_packets
from tests.media.clips import write_h264


@pytest.mark.parametrize(
    ("profile", "size", "b_frames", "options", "idc"),
    [
        ("baseline", (320, 180), 0, {}, 66),
        ("baseline", (98, 66), 0, {"x264-params": "nal-hrd=vbr:vbv-maxrate=500:vbv-bufsize=500"}, 66),
        ("main", (1280, 720), 0, {"aspect": "4:3", "x264-params": "sar=200/199:colorprim=bt709:range=tv"}, 77),
        ("high", (1920, 1080), 2, {"x264-params": "cqm=jvt"}, 100),
    ],
)
def test_parse_sps_agrees_with_ffmpeg(
    tmp_path: Path, profile: str, size: tuple[int, int], b_frames: int, options: dict[str, str], idc: int
) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=0.2, profile=profile, size=size, b_frames=b_frames, **options)
    extradata, _ = read_packets(clip)
    sps = parse_sps(parameter_sets(extradata)[0])
    with av.open(str(clip)) as container:
        context = container.streams.video[0].codec_context
        assert (sps.width, sps.height, sps.level_idc) == (context.width, context.height, context.level)
        assert sps.pixel_aspect == (context.sample_aspect_ratio or 1)
    assert (sps.profile_idc, sps.interlaced) == (idc, False)
    assert (sps.max_reorder_frames or 0) > 0 if b_frames else sps.max_reorder_frames == 0
    assert sps.profile_level_id == extradata[1:4].hex()


def test_parse_sps_of_interlaced_video_shows_it(tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=0.2, profile="main", **{"x264-params": "interlaced=1"})
    sps = parse_sps(parameter_sets(read_packets(clip)[0])[0])
    assert (sps.width, sps.height, sps.interlaced) == (320, 180, True)


_SPS = bytes.fromhex("6764001eacd940a02ff9610000030001000003003c0f162d96")


@given(st.binary(max_size=80))
def test_parse_sps_of_arbitrary_bytes_returns_or_raises(data: bytes) -> None:
    try:
        sps = parse_sps(data)
    except ValueError:
        return
    assert sps.width > 0
    assert sps.height > 0


@given(st.integers(0, len(_SPS) - 1), st.integers(0, 255), st.integers(1, len(_SPS)))
def test_parse_sps_of_damaged_sps_is_plausible_or_raises(at: int, value: int, length: int) -> None:
    assert parse_sps(_SPS).width == 640
    try:
        sps = parse_sps((_SPS[:at] + bytes([value]) + _SPS[at + 1 :])[:length])
    except ValueError:
        return
    assert 0 < sps.width <= 16_384
    assert 0 < sps.height <= 16_384


def _sps_unit(*codes: str, profile_idc: int = 66) -> bytes:
    """A NAL unit with an SPS whose fields after level_idc are ``codes``."""
    rbsp = to_bytes("".join(codes) + "1")
    escaped = bytearray()
    for byte in rbsp:
        if byte <= 3 and escaped[-2:] == b"\0\0":
            escaped.append(3)
        escaped.append(byte)
    return bytes([0x67, profile_idc, 0, 31]) + escaped


_PICTURE_ORDER_BY_FRAME = ue(2)
_SIZE_320X192 = "0" + ue(19) + ue(11) + "1" + "1"  # progressive, direct_8x8_inference_flag
_NO_CROPPING = "0"
_HRD = ue(0) + "0" * 8 + ue(9) + ue(9) + "0" + "0" * 20


def _sps_with_vui(*vui: str) -> bytes:
    head = (ue(0), ue(0), _PICTURE_ORDER_BY_FRAME, ue(1), _SIZE_320X192, _NO_CROPPING)
    return _sps_unit(*head, *vui)


_RESTRICTION = "1" + "1" + ue(0) * 4 + ue(2) + ue(4)


@pytest.mark.parametrize(
    ("vui", "expected"),
    [
        (("0",), None),
        (("1", "0" * 8, "0"), None),  # none of its optional fields
        (("1", "0" * 8, _RESTRICTION), 2),
        (("1", "1" + f"{255:08b}" + f"{4:016b}" + f"{3:016b}", "0" * 7, _RESTRICTION), 2),  # Extended_SAR
        (("1", "1" + f"{1:08b}", "1" + "1", "1" + "1010" + "1" + "0" * 24, "0" * 5, _RESTRICTION), 2),
        (("1", "000", "1" + ue(0) + ue(0), "1" + "0" * 65, "000", _RESTRICTION), 2),
        (("1", "00000", "1" + _HRD, "0", "0", "0", _RESTRICTION), 2),
        (("1", "00000", "0", "1" + _HRD, "0", "0", _RESTRICTION), 2),
        (("1", "00000", "1" + _HRD, "1" + _HRD, "0", "0", _RESTRICTION), 2),
        (("1", "0" * 8, "1" + "1"), None),  # truncated
    ],
)
def test_parse_sps_reads_reorder_frames_behind_any_vui(vui: tuple[str, ...], expected: int | None) -> None:
    sps = parse_sps(_sps_with_vui(*vui))
    assert (sps.width, sps.height, sps.max_reorder_frames) == (320, 192, expected)


@pytest.mark.parametrize(
    ("aspect", "expected"),
    [
        ("0", 1),
        ("1" + f"{0:08b}", 1),
        ("1" + f"{4:08b}", Fraction(16, 11)),
        ("1" + f"{16:08b}", 2),
        ("1" + f"{17:08b}", 1),  # reserved
        ("1" + f"{255:08b}" + f"{4:016b}" + f"{3:016b}", Fraction(4, 3)),
        ("1" + f"{255:08b}" + f"{4:016b}" + f"{0:016b}", 1),  # unspecified (E.2.1)
    ],
)
def test_parse_sps_reads_the_pixel_aspect(aspect: str, expected: Fraction | int) -> None:
    assert parse_sps(_sps_with_vui("1", aspect)).pixel_aspect == expected


@pytest.mark.parametrize(
    ("picture_order", "chroma"),
    [
        (ue(0) + ue(4), ue(1)),
        (ue(1) + "0" + se(-1) + se(2) + ue(2) + se(3) + se(-3), ue(1)),
        (_PICTURE_ORDER_BY_FRAME, ue(3) + "0"),
    ],
)
@pytest.mark.parametrize("scaling", [False, True])
def test_parse_sps_of_a_high_profile_skips_its_fields(picture_order: str, chroma: str, scaling: bool) -> None:
    lists = 12 if chroma.startswith(ue(3)) else 8
    ends_early = "1" + se(-8)  # next_scale becomes zero
    complete = "1" + se(1) * 16
    matrix = "1" + complete + ends_early + "0" * (lists - 2) if scaling else "0"
    fields = (ue(0), chroma, ue(0), ue(0), "0", matrix, ue(0), picture_order, ue(1), _SIZE_320X192, "0", "0")
    sps = parse_sps(_sps_unit(*fields, profile_idc=244))
    assert (sps.width, sps.height, sps.profile_level_id) == (320, 192, "f4001f")


@pytest.mark.parametrize(("chroma", "size"), [(0, (317, 183)), (1, (314, 174)), (2, (314, 183)), (3, (317, 183))])
def test_parse_sps_crops_in_units_of_the_chroma_format(chroma: int, size: tuple[int, int]) -> None:
    plane = "0" if chroma == 3 else ""
    crop = "1" + ue(1) + ue(2) + ue(4) + ue(5)
    fields = (ue(0), ue(chroma), plane, ue(0), ue(0), "0", "0", ue(0), _PICTURE_ORDER_BY_FRAME, ue(1))
    sps = parse_sps(_sps_unit(*fields, _SIZE_320X192, crop, "0", profile_idc=100))
    assert (sps.width, sps.height) == size


def test_parse_sps_of_an_implausible_size_raises() -> None:
    fields = (ue(0), ue(0), _PICTURE_ORDER_BY_FRAME, ue(1), "0", ue(2000), ue(11), "1", "1", _NO_CROPPING, "0")
    with pytest.raises(ValueError, match="implausible video size 32016x192"):
        parse_sps(_sps_unit(*fields))
