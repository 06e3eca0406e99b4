"""The quality ladder of a source."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from peer.media.outgoing.quality_ladder import MIN_BITRATE, Rung, ladder


def test_ladder_of_720p() -> None:
    assert ladder(1280, 720, 30) == (
        Rung(1280, 720, 30, 2_764_800),
        Rung(960, 540, 30, 1_555_200),
        Rung(640, 360, 30, 691_200),
        Rung(426, 240, 15, 153_360, limits_frame_rate=True),
    )


@given(st.integers(2, 4096), st.integers(2, 4096), st.floats(1, 120), st.none() | st.integers(50_000, 20_000_000))
def test_ladder_starts_at_full_size_and_decreases(width: int, height: int, fps: float, limit: int | None) -> None:
    rungs = ladder(width, height, fps, limit)
    assert (rungs[0].width, rungs[0].height, rungs[0].fps) == (width // 2 * 2, height // 2 * 2, fps)
    assert all(rung.width % 2 == rung.height % 2 == 0 for rung in rungs)
    assert all(limit is None or rung.bitrate <= limit for rung in rungs)
    assert all(low.bitrate <= high.bitrate * 0.75 for high, low in itertools.pairwise(rungs))


def test_small_source_has_no_rungs_that_save_too_little() -> None:
    assert [rung.bitrate for rung in ladder(160, 120, 15)] == [MIN_BITRATE]


def test_maximum_bitrate_limits_the_best_rung() -> None:
    assert [rung.bitrate for rung in ladder(1280, 720, 30, 500_000)] == [500_000, 153_360]
