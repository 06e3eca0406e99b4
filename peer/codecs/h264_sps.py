"""Sequence parameter set of H.264 (ITU-T H.264 7.3.2.1.1 and, for the VUI, E.1.1). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from .bit_reader import BitReader, unescape
from .h264 import SPS

MAX_SIDE: Final = 16_384
"""Maximum width and height, in pixels. Level 6.2 allows 16,880."""

_MAX_PARSED: Final = 1024
"""Maximum part of a parameter set that is parsed, in bytes. It bounds the time that malformed input can take."""

_PROFILES_WITH_CHROMA_FORMAT: Final = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
"""Values of profile_idc with which the SPS has chroma format and bit depth (7.3.2.1.1)."""


_EXTENDED_SAR: Final = 255
_PIXEL_ASPECTS: Final = (
    (0, 0), (1, 1), (12, 11), (10, 11), (16, 11), (40, 33), (24, 11), (20, 11), (32, 11),
    (80, 33), (18, 11), (15, 11), (64, 33), (160, 99), (4, 3), (3, 2), (2, 1),
)  # fmt: skip
"""Pixel aspect ratios by aspect_ratio_idc (table E-1); 0 is unspecified."""


@dataclass(frozen=True, slots=True)
class Sps:
    """The fields of a sequence parameter set that passthrough needs (7.4.2.1.1)."""

    profile_idc: int
    constraint_flags: int
    """The byte of constraint_set flags. constraint_set0_flag is 0x80."""
    level_idc: int
    """Ten times the level."""
    width: int
    height: int
    interlaced: bool
    """Whether frames may be coded as fields."""
    max_reorder_frames: int | None
    """max_num_reorder_frames, or ``None`` if the SPS does not have it."""
    pixel_aspect: Fraction
    """Width of a pixel divided by its height; 1 if the SPS does not have it."""

    @property
    def profile_level_id(self) -> str:
        """profile-level-id as in SDP (RFC 6184 8.1), for example ``42e01f``."""
        return f"{self.profile_idc:02x}{self.constraint_flags:02x}{self.level_idc:02x}"


def parse_sps(unit: bytes) -> Sps:
    """Parse the sequence parameter set in a NAL unit.

    Raises:
        ValueError: it is malformed, or not a sequence parameter set.
    """
    if len(unit) < 4 or unit[0] & 31 != SPS:
        raise ValueError("not a sequence parameter set")
    profile_idc, constraint_flags, level_idc = unit[1:4]
    bits = BitReader(unescape(unit[4:_MAX_PARSED]))
    bits.read_ue()  # seq_parameter_set_id
    chroma_format = _read_chroma_format(bits) if profile_idc in _PROFILES_WITH_CHROMA_FORMAT else 1
    bits.read_ue()  # log2_max_frame_num_minus4
    _skip_picture_order_count(bits)
    bits.read_ue()  # max_num_ref_frames
    bits.read(1)  # gaps_in_frame_num_value_allowed_flag
    width, height = 16 * (bits.read_ue() + 1), 16 * (bits.read_ue() + 1)
    fields = 1 - bits.read(1)  # frame_mbs_only_flag
    height *= 1 + fields
    if fields:
        bits.read(1)  # mb_adaptive_frame_field_flag
    bits.read(1)  # direct_8x8_inference_flag
    if bits.read(1):  # frame_cropping_flag
        left, right, top, bottom = (bits.read_ue() for _ in range(4))
        width -= (left + right) * (2 if chroma_format in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma_format == 1 else 1) * (1 + fields)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError(f"implausible video size {width}x{height}")
    pixel_aspect, max_reorder_frames = _read_vui(bits)
    return Sps(
        profile_idc, constraint_flags, level_idc, width, height, bool(fields), max_reorder_frames, pixel_aspect
    )


def _read_chroma_format(bits: BitReader) -> int:
    """Read the fields that only some profiles have, and return chroma_format_idc."""
    chroma_format = bits.read_ue()
    if chroma_format == 3:
        bits.read(1)  # separate_colour_plane_flag
    bits.read_ue()  # bit_depth_luma_minus8
    bits.read_ue()  # bit_depth_chroma_minus8
    bits.read(1)  # qpprime_y_zero_transform_bypass_flag
    if bits.read(1):  # seq_scaling_matrix_present_flag
        for index in range(8 if chroma_format != 3 else 12):
            if bits.read(1):  # seq_scaling_list_present_flag
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma_format


def _skip_scaling_list(bits: BitReader, size: int) -> None:
    last = scale = 8
    for _ in range(size):
        if scale:
            scale = (last + bits.read_se()) % 256
        last = scale or last


def _skip_picture_order_count(bits: BitReader) -> None:
    kind = bits.read_ue()  # pic_order_cnt_type
    if kind == 0:
        bits.read_ue()  # log2_max_pic_order_cnt_lsb_minus4
    elif kind == 1:
        bits.read(1)  # delta_pic_order_always_zero_flag
        bits.read_se()  # offset_for_non_ref_pic
        bits.read_se()  # offset_for_top_to_bottom_field
        for _ in range(min(bits.read_ue(), 256)):  # num_ref_frames_in_pic_order_cnt_cycle
            bits.read_se()


def _read_vui(bits: BitReader) -> tuple[Fraction, int | None]:
    """Read the VUI, if there is one, and return the pixel aspect ratio and max_num_reorder_frames."""
    pixel_aspect = Fraction(1)
    try:
        if not bits.read(1):  # vui_parameters_present_flag
            return pixel_aspect, None
        if bits.read(1):  # aspect_ratio_info_present_flag
            pixel_aspect = _read_pixel_aspect(bits)
        return pixel_aspect, _read_max_reorder_frames(bits)
    except ValueError:
        return pixel_aspect, None


def _read_pixel_aspect(bits: BitReader) -> Fraction:
    index = bits.read(8)  # aspect_ratio_idc
    if index == _EXTENDED_SAR:
        width, height = bits.read(16), bits.read(16)
    else:
        width, height = _PIXEL_ASPECTS[index] if index < len(_PIXEL_ASPECTS) else (0, 0)
    return Fraction(width, height) if width and height else Fraction(1)


def _read_max_reorder_frames(bits: BitReader) -> int | None:
    """Read the VUI from overscan_info_present_flag to max_num_reorder_frames."""
    if bits.read(1):  # overscan_info_present_flag
        bits.read(1)
    if bits.read(1):  # video_signal_type_present_flag
        bits.read(4)  # video_format, video_full_range_flag
        if bits.read(1):  # colour_description_present_flag
            bits.read(24)
    if bits.read(1):  # chroma_loc_info_present_flag
        bits.read_ue()
        bits.read_ue()
    if bits.read(1):  # timing_info_present_flag
        bits.read(65)
    has_hrd = bits.read(1)  # nal_hrd_parameters_present_flag
    if has_hrd:
        _skip_hrd(bits)
    if bits.read(1):  # vcl_hrd_parameters_present_flag
        _skip_hrd(bits)
        has_hrd = 1
    bits.read(has_hrd)  # low_delay_hrd_flag
    bits.read(1)  # pic_struct_present_flag
    if not bits.read(1):  # bitstream_restriction_flag
        return None
    bits.read(1)  # motion_vectors_over_pic_boundaries_flag
    for _ in range(4):
        bits.read_ue()
    return bits.read_ue()


def _skip_hrd(bits: BitReader) -> None:
    count = min(bits.read_ue(), 31) + 1  # cpb_cnt_minus1
    bits.read(8)
    for _ in range(count):
        bits.read_ue()
        bits.read_ue()
        bits.read(1)
    bits.read(20)
