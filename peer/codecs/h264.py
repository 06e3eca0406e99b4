"""H.264 as far as it must be understood to pass it on: NAL units, parameter sets, kinds of slices (ITU-T H.264).

PURE: bytes in, bytes and facts out. What is broken raises ``ValueError`` or is left out; nothing else escapes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SLICE, IDR, SPS, PPS = 1, 5, 7, 8
_DELIMITER, _FILLER = 9, 12
"""NAL unit types (table 7-1)."""

_LEFT_OUT: Final = frozenset((_DELIMITER, _FILLER, 0, *range(24, 32)))
"""Of no use in RTP, or, where ITU-T H.264 leaves the type to others, RTP's own (RFC 6184 5.2)."""

START_CODE: Final = b"\0\0\0\1"

_SETS: Final = {SPS: 32, PPS: 256}
"""How many there may be of each kind of parameter set (7.4.2.1.1, 7.4.2.2)."""

_HIGH: Final = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
"""Values of profile_idc whose SPS tells chroma format and bit depth (7.3.2.1.1)."""

_SIDE: Final = 16_384
"""Pixels a side that we believe; level 6.2 ends at 16,880."""


_LONG: Final = 1024
"""Octets of a parameter set that are looked at."""


@dataclass(frozen=True, slots=True)
class Sps:
    """What a sequence parameter set says of its pictures (7.4.2.1.1)."""

    profile_idc: int
    constraints: int
    """The octet of constraint_set flags: set0 is 0x80."""
    level_idc: int
    """Ten times the level."""
    width: int
    height: int
    interlaced: bool
    """Whether pictures may be fields."""
    reorder: int | None
    """max_num_reorder_frames; ``None``: it does not say."""

    @property
    def profile_level_id(self) -> str:
        """As RFC 6184 8.1 writes it: ``42e01f``."""
        return f"{self.profile_idc:02x}{self.constraints:02x}{self.level_idc:02x}"


def nal_units(data: bytes) -> Iterator[bytes]:
    """The NAL units of an access unit in Annex B (ITU-T H.264 B.1), without start codes and trailing zeros."""
    at = data.find(b"\x00\x00\x01")
    while at >= 0:
        begin = at + 3
        at = data.find(b"\x00\x00\x01", begin)
        unit = data[begin : len(data) if at < 0 else at].rstrip(b"\x00")
        if unit:
            yield unit


def is_b_slice(unit: bytes) -> bool:
    """Whether the slice is predicted from pictures on both sides (7.4.3, slice_type)."""
    bits = _Bits(_payload(unit[1:40]))
    try:
        bits.ue()
        return bits.ue() % 5 == 1
    except ValueError:
        return False


def parse_sps(unit: bytes) -> Sps:
    """The sequence parameter set in a NAL unit.

    Raises:
        ValueError: it is none, or broken.
    """
    if len(unit) < 4 or unit[0] & 31 != SPS:
        raise ValueError("no sequence parameter set")
    profile_idc, constraints, level_idc = unit[1:4]
    bits = _Bits(_payload(unit[4:_LONG]))
    bits.ue()  # seq_parameter_set_id
    chroma = _skip_high(bits) if profile_idc in _HIGH else 1
    bits.ue()  # log2_max_frame_num_minus4
    _skip_order_count(bits)
    bits.ue()  # max_num_ref_frames
    bits.take(1)
    width, height = 16 * (bits.ue() + 1), 16 * (bits.ue() + 1)
    fields = 1 - bits.take(1)
    height *= 1 + fields
    if fields:
        bits.take(1)
    bits.take(1)
    if bits.take(1):
        left, right, top, bottom = (bits.ue() for _ in range(4))
        width -= (left + right) * (2 if chroma in (1, 2) else 1)
        height -= (top + bottom) * (2 if chroma == 1 else 1) * (1 + fields)
    if not (0 < width <= _SIDE and 0 < height <= _SIDE):
        raise ValueError(f"pictures of {width}x{height}")
    return Sps(profile_idc, constraints, level_idc, width, height, bool(fields), _reorder(bits))


def _skip_high(bits: _Bits) -> int:
    """What the high profiles have in between; gives chroma_format_idc."""
    chroma = bits.ue()
    if chroma == 3:
        bits.take(1)
    bits.ue()
    bits.ue()
    bits.take(1)
    if bits.take(1):
        for index in range(8 if chroma != 3 else 12):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if index < 6 else 64)
    return chroma


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = scale = 8
    for _ in range(size):
        if scale:
            scale = (last + bits.se()) % 256
        last = scale or last


def _skip_order_count(bits: _Bits) -> None:
    kind = bits.ue()
    if kind == 0:
        bits.ue()
    elif kind == 1:
        bits.take(1)
        bits.se()
        bits.se()
        for _ in range(min(bits.ue(), 256)):
            bits.se()


def _reorder(bits: _Bits) -> int | None:
    """max_num_reorder_frames, at the end of the VUI (E.1.1), if it is there."""
    try:
        if not bits.take(1):
            return None
        if bits.take(1) and bits.take(8) == 255:  # Extended_SAR
            bits.take(32)
        if bits.take(1):
            bits.take(1)
        if bits.take(1):
            bits.take(4)
            if bits.take(1):
                bits.take(24)
        if bits.take(1):
            bits.ue()
            bits.ue()
        if bits.take(1):
            bits.take(65)
        coded = bits.take(1)
        if coded:
            _skip_hrd(bits)
        if bits.take(1):
            _skip_hrd(bits)
            coded = 1
        bits.take(coded)
        bits.take(1)
        if not bits.take(1):
            return None
        bits.take(1)
        for _ in range(4):
            bits.ue()
        return bits.ue()
    except ValueError:
        return None


def _skip_hrd(bits: _Bits) -> None:
    count = min(bits.ue(), 31) + 1
    bits.take(8)
    for _ in range(count):
        bits.ue()
        bits.ue()
        bits.take(1)
    bits.take(20)


class _Bits:
    """Reads an RBSP (7.2, 9.1). Its end raises ``ValueError``."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = len(data) * 8

    def take(self, count: int) -> int:
        if count > self._left:
            raise ValueError("it ends too early")
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def ue(self) -> int:
        """Exp-Golomb, unsigned."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("no number")
        return (1 << zeros) - 1 + self.take(zeros)

    def se(self) -> int:
        """Exp-Golomb, signed."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -code // 2


def _payload(data: bytes) -> bytes:
    """Without emulation prevention (7.4.1)."""
    return data.replace(b"\0\0\3", b"\0\0")


class AccessUnits:
    """The packets of one stream as Annex B, parameter sets in front of each IDR picture: who joins there can decode.

    What FFmpeg's ``h264_mp4toannexb`` and ``dump_extra`` do, but that parameter sets which change on the way are the
    ones that are repeated. Delimiters, filler and units of no type of H.264's are left out.

    Args:
        extradata: that of the container: an avcC box (ISO 14496-15 5.3.3.1), Annex B, or nothing.
    """

    def __init__(self, extradata: bytes) -> None:
        self._sets: dict[tuple[int, int], bytes] = {}
        self._prefix = 0
        """Octets of the length in front of each unit; 0: Annex B."""
        if extradata[:1] == b"\1" and len(extradata) > 4:
            self._prefix = (extradata[4] & 3) + 1
        for unit in parameter_sets(extradata):
            self._keep(unit)

    def convert(self, packet: bytes) -> tuple[bytes, bool]:
        """The access unit of ``packet``, and whether decoding can start with it. Empty: there is no picture in it."""
        found = _prefixed(packet, self._prefix) if self._prefix else nal_units(packet)
        kept = [unit for unit in found if unit[0] & 31 not in _LEFT_OUT]
        kinds = {unit[0] & 31 for unit in kept}
        for unit in kept:
            self._keep(unit)
        if not any(SLICE <= kind <= IDR for kind in kinds):
            return b"", False
        if IDR in kinds and not {SPS, PPS} <= kinds:
            kept = [*self._sets.values(), *(unit for unit in kept if unit[0] & 31 not in _SETS)]
            kinds = {unit[0] & 31 for unit in kept}  # a broken set is not among them any more
        return b"".join(START_CODE + unit for unit in kept), {IDR, SPS, PPS} <= kinds

    def _keep(self, unit: bytes) -> None:
        kind = unit[0] & 31
        if kind not in _SETS:
            return
        bits = _Bits(_payload(unit[4:12] if kind == SPS else unit[1:9]))
        try:
            number = bits.ue()
        except ValueError:
            return
        if number < _SETS[kind]:
            self._sets[kind, number] = unit
            self._sets = dict(sorted(self._sets.items()))


def parameter_sets(extradata: bytes) -> list[bytes]:
    """The SPS and PPS in a container's extradata: an avcC box, Annex B, or nothing. Broken ones are left out."""
    if extradata[:1] != b"\1":
        return [unit for unit in nal_units(extradata) if unit[0] & 31 in _SETS]
    try:
        at, found = 5, []
        for mask in (31, 255):
            count, at = extradata[at] & mask, at + 1
            for _ in range(count):
                (length,) = struct.unpack_from("!H", extradata, at)
                found.append(extradata[at + 2 : at + 2 + length])
                at += 2 + length
    except (IndexError, struct.error):
        return []
    return [unit for unit in found if unit and unit[0] & 31 in _SETS]


def _prefixed(packet: bytes, size: int) -> Iterator[bytes]:
    """The units of a packet in which each has its length in front; what remains of a broken one is left out."""
    at = 0
    while at + size < len(packet):
        length = int.from_bytes(packet[at : at + size])
        at += size
        if length and at + length <= len(packet):
            yield packet[at : at + length]
        at += length
