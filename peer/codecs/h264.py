"""H.264 bitstreams (ITU-T H.264), as far as passthrough must understand them: NAL units and parameter sets. Pure.

Malformed input raises ``ValueError`` or is left out, as each function states. No other exception escapes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from .bit_reader import BitReader, unescape

SLICE, IDR, SPS, PPS, DELIMITER, FILLER = 1, 5, 7, 8, 9, 12
"""NAL unit types (table 7-1)."""

STAP_A, FU_A = 24, 28
"""Types that are unspecified in H.264 and used in RTP payloads (RFC 6184 5.2)."""

START_CODE: Final = b"\0\0\0\1"

_DROPPED: Final = frozenset((DELIMITER, FILLER, 0, *range(24, 32)))
"""Types that are not forwarded: useless in RTP, or unspecified in H.264 and with a meaning of their own in RTP."""

_MAX_PARAMETER_SETS: Final = {SPS: 32, PPS: 256}
"""Maximum number of parameter sets of each kind (7.4.2.1.1, 7.4.2.2)."""


def nal_units(data: bytes) -> Iterator[bytes]:
    """Yield the NAL units of an Annex B access unit (ITU-T H.264 B.1), without start codes and trailing zeros."""
    at = data.find(b"\x00\x00\x01")
    while at >= 0:
        begin = at + 3
        at = data.find(b"\x00\x00\x01", begin)
        unit = data[begin : len(data) if at < 0 else at].rstrip(b"\x00")
        if unit:
            yield unit


def is_b_slice(unit: bytes) -> bool:
    """Whether a slice is a B slice (7.4.3, slice_type). False for a malformed one."""
    bits = BitReader(unescape(unit[1:40]))
    try:
        bits.read_ue()  # first_mb_in_slice
        return bits.read_ue() % 5 == 1
    except ValueError:
        return False


def parameter_sets(extradata: bytes) -> list[bytes]:
    """Return the SPS and PPS units in a container's extradata: an avcC box, Annex B, or nothing.

    Malformed parameter sets in Annex B, and a malformed avcC box as a whole, are left out.
    """
    if extradata[:1] != b"\1":
        return [unit for unit in nal_units(extradata) if unit[0] & 31 in _MAX_PARAMETER_SETS]
    try:
        at, found = 5, []
        for mask in (31, 255):  # numOfSequenceParameterSets has five bits, numOfPictureParameterSets eight
            count, at = extradata[at] & mask, at + 1
            for _ in range(count):
                (length,) = struct.unpack_from("!H", extradata, at)
                found.append(extradata[at + 2 : at + 2 + length])
                at += 2 + length
    except (IndexError, struct.error):
        return []
    return [unit for unit in found if unit and unit[0] & 31 in _MAX_PARAMETER_SETS]


class AnnexBConverter:
    """Converter of one stream's packets to Annex B, with parameter sets before each IDR picture.

    A viewer that joins at an IDR picture can then decode it. This is what FFmpeg's ``h264_mp4toannexb`` and
    ``dump_extra`` do, except that parameter sets which change within the stream replace the earlier ones. Delimiters,
    filler data and unspecified NAL unit types are dropped.

    Args:
        extradata: the container's: an avcC box (ISO 14496-15 5.3.3.1), Annex B, or nothing.
    """

    def __init__(self, extradata: bytes) -> None:
        self._parameter_sets: dict[tuple[int, int], bytes] = {}  # by NAL unit type and id
        self._length_size = 0
        """Bytes of the length before each unit. 0: the packets are in Annex B."""
        if extradata[:1] == b"\1" and len(extradata) > 4:
            self._length_size = (extradata[4] & 3) + 1
        for unit in parameter_sets(extradata):
            self._store(unit)

    def convert(self, packet: bytes) -> tuple[bytes, bool]:
        """Return the access unit, and whether decoding can start with it. Without a slice it is empty."""
        found = _length_prefixed_units(packet, self._length_size) if self._length_size else nal_units(packet)
        units = [unit for unit in found if unit[0] & 31 not in _DROPPED]
        kinds = {unit[0] & 31 for unit in units}
        for unit in units:
            self._store(unit)
        if not any(SLICE <= kind <= IDR for kind in kinds):
            return b"", False
        if IDR in kinds and not {SPS, PPS} <= kinds:
            others = (unit for unit in units if unit[0] & 31 not in _MAX_PARAMETER_SETS)
            units = [*self._parameter_sets.values(), *others]
            kinds = {unit[0] & 31 for unit in units}  # without malformed parameter sets
        return b"".join(START_CODE + unit for unit in units), {IDR, SPS, PPS} <= kinds

    def _store(self, unit: bytes) -> None:
        """Remember ``unit`` if it is a well-formed parameter set."""
        kind = unit[0] & 31
        if kind not in _MAX_PARAMETER_SETS:
            return
        bits = BitReader(unescape(unit[4:12] if kind == SPS else unit[1:9]))
        try:
            number = bits.read_ue()  # seq_parameter_set_id or pic_parameter_set_id
        except ValueError:
            return
        if number < _MAX_PARAMETER_SETS[kind]:
            self._parameter_sets[kind, number] = unit
            self._parameter_sets = dict(sorted(self._parameter_sets.items()))


def _length_prefixed_units(packet: bytes, length_size: int) -> Iterator[bytes]:
    """Yield the units of a packet in which each is preceded by its length. A truncated unit is left out."""
    at = 0
    while at + length_size < len(packet):
        length = int.from_bytes(packet[at : at + length_size])
        at += length_size
        if length and at + length <= len(packet):
            yield packet[at : at + length]
        at += length
