"""How many pictures a second an encoder is told."""

from __future__ import annotations

from peer.media.outgoing.frame_rate import Pace


def _rate(pace: Pace, fps: float, seconds: float, begin: float = 0.0) -> float:
    """What is thought after ``seconds`` of ``fps`` pictures a second, where 30 were expected."""
    return [pace.count(begin + number / fps, 30.0) for number in range(int(seconds * fps))][-1]


def test_more_pictures_are_believed_soon_and_fewer_when_they_last() -> None:
    assert _rate(Pace(), 60, 1.9) == 30
    assert _rate(Pace(), 60, 2.1) == 60
    assert _rate(Pace(), 10, 9) == 30
    assert _rate(Pace(), 10, 11) == 10


def test_a_rate_that_is_nearly_right_and_a_silent_source_change_nothing() -> None:
    assert _rate(Pace(), 25, 60) == 30
    assert _rate(Pace(), 36, 60) == 30
    assert _rate(Pace(), 1, 60) == 30


def test_another_expectation_begins_anew() -> None:
    pace = Pace()
    _rate(pace, 60, 3)
    assert pace.count(3.0, 15.0) == 15
