"""The frame rate that an encoder is configured with."""

from __future__ import annotations

from peer.media.outgoing.frame_rate import FrameRateEstimator


def estimate(estimator: FrameRateEstimator, fps: float, seconds: float) -> float:
    """Return the estimate after ``seconds`` of ``fps`` frames per second, where 30 are expected."""
    return [estimator.add_frame(number / fps, 30.0) for number in range(int(seconds * fps))][-1]


def test_increase_is_applied_soon_and_decrease_when_it_lasts() -> None:
    assert estimate(FrameRateEstimator(), 60, 1.9) == 30
    assert estimate(FrameRateEstimator(), 60, 2.1) == 60
    assert estimate(FrameRateEstimator(), 10, 9) == 30
    assert estimate(FrameRateEstimator(), 10, 11) == 10


def test_small_differences_and_pauses_change_nothing() -> None:
    assert estimate(FrameRateEstimator(), 25, 60) == 30
    assert estimate(FrameRateEstimator(), 36, 60) == 30
    assert estimate(FrameRateEstimator(), 1, 60) == 30


def test_new_expected_rate_starts_the_estimate_again() -> None:
    estimator = FrameRateEstimator()
    estimate(estimator, 60, 3)
    assert estimator.add_frame(3.0, 15.0) == 15
