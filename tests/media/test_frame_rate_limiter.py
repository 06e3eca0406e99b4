"""The rate of pictures is bounded evenly."""

from __future__ import annotations

import pytest

from peer.media.frame_rate_limiter import FrameRateLimiter


@pytest.mark.parametrize(
    ("wish", "given", "taken"),
    [(30, 60, 30), (25, 30, 25), (30, 30, 30), (30, 29.97, 29.97), (15, 50, 15), (None, 50, 50), (30, 10, 10)],
)
def test_takes_what_was_wished(wish: float | None, given: float, taken: float) -> None:
    limiter = FrameRateLimiter(wish)
    count = sum(limiter.accepts(n / given) for n in range(round(given * 10)))
    assert count == pytest.approx(taken * 10, abs=taken * 0.2 + 1)


def test_jitter_of_a_camera_loses_no_picture() -> None:
    limiter = FrameRateLimiter(30)
    assert all(limiter.accepts(n / 30 + (n % 2) * 0.003) for n in range(300))


def test_a_clock_that_jumps_back_does_not_stop_it() -> None:
    limiter = FrameRateLimiter(30)
    assert limiter.accepts(1000.0)
    assert limiter.accepts(0.0)
    assert not limiter.accepts(0.001)
