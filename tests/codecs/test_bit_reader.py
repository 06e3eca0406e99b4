"""Reading of fixed-length and Exp-Golomb codes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.codecs.bit_reader import BitReader, unescape
from tests.codecs.bits import se, to_bytes, ue


@given(st.lists(st.integers(0, 2**32 - 2), min_size=1, max_size=20))
def test_unsigned_codes_are_read_back(values: list[int]) -> None:
    reader = BitReader(to_bytes("".join(map(ue, values))))
    assert [reader.read_ue() for _ in values] == values


@given(st.integers(-(2**31) + 1, 2**31 - 1))
def test_signed_code_is_read_back(value: int) -> None:
    assert BitReader(to_bytes(se(value))).read_se() == value


def test_read_returns_the_bits_in_order() -> None:
    reader = BitReader(b"\xa5\x0f")
    assert [reader.read(count) for count in (1, 3, 4, 0, 8)] == [1, 2, 5, 0, 15]


def test_read_past_the_end_raises() -> None:
    with pytest.raises(ValueError, match="truncated"):
        BitReader(b"\xff").read(9)
    with pytest.raises(ValueError, match="truncated"):
        BitReader(b"\0").read_ue()


def test_code_longer_than_32_bits_raises() -> None:
    with pytest.raises(ValueError, match="longer than 32 bits"):
        BitReader(bytes(5) + b"\xff").read_ue()


def test_unescape_removes_emulation_prevention_bytes() -> None:
    assert unescape(b"\0\0\3\1\0\0\3\0\3") == b"\0\0\1\0\0\0\3"
