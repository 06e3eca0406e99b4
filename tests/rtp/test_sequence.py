"""Unwrapping of sequence numbers and timestamps: order, restart of the sender, wrap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.rtp.sequence import MAX_MISORDER, SequenceUnwrapper, TimestampUnwrapper


@given(st.integers(0, 65535), st.lists(st.integers(-900, 2900), max_size=200))
def test_sequence_unwraps_in_range_steps(first: int, steps: list[int]) -> None:
    sequence, at = SequenceUnwrapper(), first
    origin = sequence.unwrap(first)
    assert origin is not None
    highest = first
    for step in steps:
        at = max(highest + step, first - 900)
        assert sequence.unwrap(at % 65536) == origin + at - first
        highest = max(highest, at)
        assert sequence.highest == origin + highest - first


def test_sequence_after_two_consecutive_far_numbers_restarts() -> None:
    sequence = SequenceUnwrapper()
    last = sequence.unwrap(100)
    assert last is not None
    assert sequence.unwrap(30_000) is None
    assert sequence.unwrap(101) == last + 1
    assert sequence.unwrap(30_001) is None, "not consecutive"
    again = sequence.unwrap(30_002)
    assert again is not None and again > last + 65_536 and again % 65_536 == 30_002
    assert sequence.base == again
    assert sequence.unwrap(30_003) == again + 1


def test_sequence_drops_a_very_late_number() -> None:
    sequence = SequenceUnwrapper()
    for number in range(2 * MAX_MISORDER):
        sequence.unwrap(number)
    assert sequence.unwrap(MAX_MISORDER - 1) is None
    last = sequence.highest
    assert sequence.unwrap(2 * MAX_MISORDER) == last + 1


def test_sequence_peek_changes_nothing() -> None:
    sequence = SequenceUnwrapper()
    first = sequence.unwrap(65_530)
    assert first is not None
    assert sequence.unwrap(5) == first + 11
    assert sequence.peek(65_534) == first + 4
    assert sequence.highest == first + 11


@pytest.mark.parametrize("origin", [0, 5, 2**32 - 10])
def test_timestamps_unwrap_across_the_wrap_and_back(origin: int) -> None:
    timestamps = TimestampUnwrapper()
    assert timestamps.peek(origin) is None
    steps = [0, 3000, 2**30, 2**31, 3 * 2**30, 2**32 + 50, 2**32 + 40]
    assert [timestamps.unwrap((origin + step) % 2**32) for step in steps] == steps
    assert timestamps.peek((origin + 2**32 + 45) % 2**32) == 2**32 + 45
