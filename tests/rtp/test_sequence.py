"""Numbers that wrap, unwrapped."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.sequence import MAX_MISORDER, Sequence, Timestamps


@given(st.integers(0, 65535), st.lists(st.integers(-900, 2900), max_size=200))
def test_numbers_grow_with_what_they_count(first: int, steps: list[int]) -> None:
    sequence, at = Sequence(), first
    origin = sequence.extend(first)
    assert origin is not None
    highest = first
    for step in steps:
        at = max(highest + step, first - 900)
        assert sequence.extend(at % 65536) == origin + at - first
        highest = max(highest, at)
        assert sequence.last == origin + highest - first


def test_a_number_from_nowhere_is_left_out_and_two_in_a_row_are_a_new_beginning() -> None:
    sequence = Sequence()
    last = sequence.extend(100)
    assert last is not None
    assert sequence.extend(30_000) is None
    assert sequence.extend(101) == last + 1
    assert sequence.extend(30_001) is None, "not in a row"
    again = sequence.extend(30_002)
    assert again is not None and again > last + 65_536 and again % 65_536 == 30_002
    assert sequence.first == again
    assert sequence.extend(30_003) == again + 1


def test_one_that_is_very_late_is_left_out() -> None:
    sequence = Sequence()
    for number in range(2 * MAX_MISORDER):
        sequence.extend(number)
    assert sequence.extend(MAX_MISORDER - 1) is None
    last = sequence.last
    assert sequence.extend(2 * MAX_MISORDER) == last + 1


def test_a_retransmission_lies_near_the_last_one_and_moves_nothing() -> None:
    sequence = Sequence()
    first = sequence.extend(65_530)
    assert first is not None
    assert sequence.extend(5) == first + 11
    assert sequence.near(65_534) == first + 4
    assert sequence.last == first + 11


@pytest.mark.parametrize("origin", [0, 5, 2**32 - 10])
def test_timestamps_are_unwrapped_across_their_end_and_back(origin: int) -> None:
    timestamps = Timestamps()
    assert timestamps.relative(origin) is None
    steps = [0, 3000, 2**30, 2**31, 3 * 2**30, 2**32 + 50, 2**32 + 40]
    assert [timestamps.map((origin + step) % 2**32) for step in steps] == steps
    assert timestamps.relative((origin + 2**32 + 45) % 2**32) == 2**32 + 45
