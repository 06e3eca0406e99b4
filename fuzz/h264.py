"""Target: malformed H.264 from a camera, a file or an RTSP server.

    python -m fuzz h264 --seconds 60

Properties: malformed input yields ``ValueError`` or nothing; sizes are plausible; a forwarded access unit contains
the input's slices unchanged and in order, with parameter sets before an IDR picture, also after a round trip
through RTP.
"""

from __future__ import annotations

from peer.codecs import h264
from peer.codecs.h264 import AnnexBConverter, nal_units, parameter_sets
from peer.codecs.h264_sps import parse_sps
from peer.rtp.depacketizer import depacketize
from peer.rtp.packetizer import MAX_PAYLOAD, packetize

from .byte_reader import ByteReader

SPS = bytes.fromhex("6742c01fda014016e840000003004000000f23c60ca8")
HIGH = bytes.fromhex("6764001facd9405005bb016a02020280000003008000001e478c18cb")
PPS = bytes.fromhex("68ce3c80")
SETS = b"\0\0\0\1" + SPS + b"\0\0\1" + PPS
AVCC = b"\1\x42\xc0\x1f\xff\xe1" + len(SPS).to_bytes(2) + SPS + b"\1" + len(PPS).to_bytes(2) + PPS
SEEDS = [
    b"\0" + SPS,
    b"\0" + HIGH,
    b"\1\0" + SETS + b"\0\0\0\1\x65\x88\x84",
    b"\1\1\0\0\0\3\x65\x88\x84\0\0\0\2\x41\x9a",
    b"\2" + AVCC,
    b"\3" + PPS + b"\x41\x9a\x02\x04",
]


def test_one(data: bytes) -> None:
    reader = ByteReader(data)
    match reader.number() % 4:
        case 0:
            _sps(reader.rest())
        case 1:
            prefixed = reader.number() % 2 == 1
            converter = AnnexBConverter(AVCC if prefixed else b"")
            for packet in reader.rest().split(b"\xee\xee"):
                _convert(converter, packet, prefixed=prefixed)
        case 2:
            extradata = reader.rest()
            assert all(unit[0] & 31 in (h264.SPS, h264.PPS) for unit in parameter_sets(extradata))
            converter = AnnexBConverter(extradata)
            for packet in (b"\0\0\1\x65\x88", b"\0\0\0\2\x65\x88", b"\0\2\x65\x88"):
                converter.convert(packet)
        case _:
            unit = reader.rest()
            assert h264.is_b_slice(unit) in (True, False)


def _sps(unit: bytes) -> None:
    try:
        found = parse_sps(unit)
    except ValueError:
        return
    assert 0 < found.width <= 16_384 and 0 < found.height <= 16_384
    assert found.max_reorder_frames is None or found.max_reorder_frames >= 0
    assert len(found.profile_level_id) == 6 and int(found.profile_level_id, 16) == int.from_bytes(unit[1:4])


def _convert(converter: AnnexBConverter, packet: bytes, *, prefixed: bool) -> None:
    out, key = converter.convert(packet)
    assert len(converter._parameter_sets) <= 32 + 256
    if not out:
        assert not key
        return
    _check_payloads(out)
    found = list(nal_units(out))
    kinds = [unit[0] & 31 for unit in found]
    assert any(1 <= kind <= 5 for kind in kinds) or prefixed
    assert 9 not in kinds or prefixed
    if prefixed:  # a unit may contain bytes like a start code; it is forwarded unchanged
        return
    slices = [unit for unit in nal_units(packet) if 1 <= unit[0] & 31 <= 5]
    assert [unit for unit in found if 1 <= unit[0] & 31 <= 5] == slices
    assert not key or {h264.IDR, h264.SPS, h264.PPS} <= set(kinds)
    assert converter.convert(out)[0] == out, "valid input stays unchanged"


def _check_payloads(data: bytes) -> None:
    packets = packetize("h264", data)
    assert all(len(packet) <= MAX_PAYLOAD for packet in packets)
    arrived = b"".join(depacketize("h264", packet).data for packet in packets)
    assert arrived == b"".join(h264.START_CODE + unit for unit in nal_units(data))
