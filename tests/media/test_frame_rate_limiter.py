"""The frame rate limiter."""

from __future__ import annotations

import pytest

from peer.media.frame_rate_limiter import FrameRateLimiter


@pytest.mark.parametrize(
    ("maximum", "offered", "accepted"),
    [(30, 60, 30), (25, 30, 25), (30, 30, 30), (30, 29.97, 29.97), (15, 50, 15), (None, 50, 50), (30, 10, 10)],
)
def test_limiter_accepts_the_requested_rate(maximum: float | None, offered: float, accepted: float) -> None:
    limiter = FrameRateLimiter(maximum)
    count = sum(limiter.accepts(n / offered) for n in range(round(offered * 10)))
    assert count == pytest.approx(accepted * 10, abs=accepted * 0.2 + 1)


def test_limiter_tolerates_camera_jitter() -> None:
    limiter = FrameRateLimiter(30)
    assert all(limiter.accepts(n / 30 + (n % 2) * 0.003) for n in range(300))


def test_limiter_goes_on_after_clock_jumps_back() -> None:
    limiter = FrameRateLimiter(30)
    assert limiter.accepts(1000.0)
    assert limiter.accepts(0.0)
    assert not limiter.accepts(0.001)
