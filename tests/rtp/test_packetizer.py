"""Packetization of VP8, H.264 and audio, checked with the engine's depacketizers."""

from __future__ import annotations

import pytest
from aiortc.codecs.h264 import h264_depayload
from aiortc.codecs.vpx import VpxPayloadDescriptor, vp8_depayload
from hypothesis import given
from hypothesis import strategies as st

from peer.codecs.h264 import nal_units
from peer.rtp.packetizer import MAX_PAYLOAD, fits, packetize

SIZES = st.integers(2, 4 * MAX_PAYLOAD)


@given(st.binary(min_size=1, max_size=5 * MAX_PAYLOAD))
def test_vp8_frame_survives_the_engines_depacketizer(data: bytes) -> None:
    packets = packetize("vp8", data)
    assert b"".join(vp8_depayload(packet) for packet in packets) == data
    assert max(map(len, packets)) <= MAX_PAYLOAD
    starts = [VpxPayloadDescriptor.parse(packet)[0].partition_start for packet in packets]
    assert starts == [1] + [0] * (len(packets) - 1)


@given(st.lists(st.tuples(st.integers(1, 23), st.integers(0, 3), SIZES), min_size=1, max_size=8), st.booleans())
def test_h264_units_survive_the_engines_depacketizer(units: list[tuple[int, int, int]], long_codes: bool) -> None:
    coded = [bytes([nri << 5 | kind]) + b"\x9d" * (size - 1) for kind, nri, size in units]
    data = b"".join((b"\x00\x00\x00\x01" if long_codes else b"\x00\x00\x01") + unit for unit in coded)
    packets = packetize("h264", data)
    assert list(nal_units(b"".join(h264_depayload(packet) for packet in packets))) == coded
    assert max(map(len, packets)) <= MAX_PAYLOAD


def test_small_h264_units_are_aggregated() -> None:
    access_unit = b"\x00\x00\x00\x01\x67sps\x00\x00\x00\x01\x68pps\x00\x00\x01\x65slice"
    [packet] = packetize("h264", access_unit)
    assert packet[0] == 0x60 | 24
    assert h264_depayload(packet) == b"".join(b"\x00\x00\x00\x01" + unit for unit in nal_units(access_unit))


def test_single_small_h264_unit_is_unchanged() -> None:
    assert packetize("h264", b"\x00\x00\x01\x41abc") == [b"\x41abc"]


def test_h264_fragments_keep_nri_and_mark_first_and_last() -> None:
    first, *middle, last = packetize("h264", b"\x00\x00\x01\x65" + b"x" * 5000)
    assert {packet[0] for packet in (first, *middle, last)} == {0x60 | 28}
    assert (first[1], {packet[1] for packet in middle}, last[1]) == (0x85, {0x05}, 0x45)
    assert max(map(len, (first, *middle, last))) - min(map(len, (first, *middle, last))) <= 1


@given(st.lists(st.tuples(st.integers(1, 23), SIZES), min_size=1, max_size=8))
def test_h264_in_mode_0_has_one_nal_unit_per_payload(units: list[tuple[int, int]]) -> None:
    coded = [bytes([0x60 | kind]) + b"\x9d" * (size - 1) for kind, size in units]
    assert packetize("h264", b"".join(b"\x00\x00\x01" + unit for unit in coded), 0) == coded


@pytest.mark.parametrize(("size", "expected"), [(MAX_PAYLOAD, True), (MAX_PAYLOAD + 1, False)])
@pytest.mark.parametrize("mode", [0, 1])
def test_h264_fits_if_no_nal_unit_exceeds_a_payload(size: int, expected: bool, mode: int) -> None:
    data = b"\x00\x00\x01\x67sps\x00\x00\x01\x65" + b"x" * (size - 1)
    assert fits(packetize("h264", data, mode)) is expected


@pytest.mark.parametrize("mode", [0, 1])
@pytest.mark.parametrize("data", [b"", b"no start code", b"\x00\x00\x01"])
def test_h264_without_nal_units_yields_no_payload(data: bytes, mode: int) -> None:
    assert packetize("h264", data, mode) == [] and fits([])


def test_audio_frame_is_one_payload() -> None:
    assert packetize("opus", b"\xfc" * 300) == [b"\xfc" * 300]
