"""Which rung a viewer gets: the ladder, and the climbing on links that a few lines imitate."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from peer.media.outgoing.quality_ladder import LOSS, MIN_BITRATE, Chooser, Rung, ladder

HD = ladder(1280, 720, 30)
BITRATES = tuple(rung.bitrate for rung in HD)


def test_the_ladder_of_720p() -> None:
    assert HD == (
        Rung(1280, 720, 30, 2_764_800),
        Rung(960, 540, 30, 1_555_200),
        Rung(640, 360, 30, 691_200),
        Rung(426, 240, 15, 153_360, thinned=True),
    )


@given(st.integers(2, 4096), st.integers(2, 4096), st.floats(1, 120), st.none() | st.integers(50_000, 20_000_000))
def test_every_ladder_begins_with_the_whole_picture_and_goes_down(
    width: int, height: int, fps: float, limit: int | None
) -> None:
    rungs = ladder(width, height, fps, limit)
    assert (rungs[0].width, rungs[0].height, rungs[0].fps) == (width // 2 * 2, height // 2 * 2, fps)
    assert all(rung.width % 2 == rung.height % 2 == 0 for rung in rungs)
    assert all(limit is None or rung.bitrate <= limit for rung in rungs)
    assert all(low.bitrate <= high.bitrate * 0.75 for high, low in itertools.pairwise(rungs))


def test_a_small_picture_has_no_rungs_that_would_save_nothing() -> None:
    assert [rung.bitrate for rung in ladder(160, 120, 15)] == [MIN_BITRATE]


def test_the_users_limit_holds_for_the_full_picture_too() -> None:
    assert [rung.bitrate for rung in ladder(1280, 720, 30, 500_000)] == [500_000, 153_360]


Link = Callable[[float, int], tuple[int | None, float, float]]
"""Seconds and bit/s sent to the viewer's estimate, loss and round trip."""


def climb(link: Link, seconds: int, bitrates: tuple[int, ...] = BITRATES, *, can_probe: bool = True) -> list[int]:
    """The rung at each half second."""
    chooser = Chooser(bitrates, 0.0, can_probe=can_probe)
    rungs = []
    for half in range(seconds * 2):
        now, sent = half / 2, bitrates[chooser.rung]
        estimate, loss, rtt = link(now, sent + chooser.probe(now))
        if estimate is not None:
            chooser.estimate(estimate, now)
        chooser.report(loss, rtt, now)
        rungs.append(chooser.look(sent, now))
    return rungs


def pipe(capacity: int, *, queue: float = 0.0) -> Link:
    """A link of ``capacity`` bit/s. What does not fit is lost, or waits if its queue is ``queue`` seconds long."""

    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        if sent <= capacity:
            return int(sent * 1.5), 0.0, 0.02
        return int(capacity * 0.85), 0.0 if queue else 1 - capacity / sent, 0.02 + queue

    return link


def test_a_wide_link_keeps_the_whole_picture() -> None:
    assert set(climb(pipe(10_000_000), 600)) == {0}


def slow_estimate(link: Link) -> Link:
    """As a receiver's estimate is: it falls at once, and rises by 8 % a second (draft-ietf-rmcat-gcc 5.5)."""
    last = [0.0, 1e9]

    def slowed(now: float, sent: int) -> tuple[int | None, float, float]:
        estimate, loss, rtt = link(now, sent)
        assert estimate is not None
        last[:] = now, min(estimate, last[1] * 1.08 ** (now - last[0]))
        return int(last[1]), loss, rtt

    return slowed


@pytest.mark.parametrize("queue", [0.0, 1.5])
def test_a_link_of_300_kbits_gets_the_smallest_within_seconds_and_keeps_it(queue: float) -> None:
    rungs = climb(pipe(300_000, queue=queue), 600)
    assert rungs.index(3) <= 2 * 6
    assert set(rungs[2 * 6 :]) == {3}, "it is the probes that fail"


def test_who_cannot_be_probed_is_tried_on_the_next_rung_now_and_then() -> None:
    rungs = climb(pipe(300_000), 600, can_probe=False)
    settled = rungs[20:]
    assert settled.count(3) / len(settled) > 0.95
    assert set(settled) == {2, 3}, "it is tried again, one step at a time"


def test_the_first_step_down_is_as_large_as_the_estimate_says() -> None:
    rungs = climb(pipe(1_500_000), 5)
    assert sorted(set(rungs)) == [0, 2]


@pytest.mark.parametrize("can_probe", [True, False])
def test_a_link_that_widens_is_used_again(can_probe: bool) -> None:
    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        return pipe(300_000 if now < 30 else 10_000_000)(now, sent)

    rungs = climb(slow_estimate(link), 120, can_probe=can_probe)
    assert rungs[59] == 3 and rungs[-1] == 0


def test_a_probe_grows_to_the_next_rung_and_ends_when_the_estimate_falls() -> None:
    chooser = Chooser(BITRATES, 0.0)
    now = 2.0
    chooser.estimate(255_000, now)
    assert chooser.look(2_764_800, now, missed=0.5) == 3
    while not chooser.probe(now) and now < 20:
        now += 0.5
        chooser.estimate(255_000, now)
        chooser.report(0.0, 0.02, now)
        chooser.look(153_000, now)
    rates = [chooser.probe(now + later) for later in (0.0, 0.5, 1.0, 1.5, 2.5)]
    assert rates == sorted(rates) and rates[-1] == BITRATES[2] - BITRATES[3]
    chooser.estimate(255_000, now + 1.0)
    assert chooser.probe(now + 1.0), "as it was"
    chooser.estimate(210_000, now + 1.1)
    assert not chooser.probe(now + 1.1)
    assert chooser.look(153_000, now + 1.1) == 3


def test_who_gets_hardly_anything_goes_to_the_last_rung_at_once() -> None:
    """Its estimate is still falling: half of it counts what came before."""
    chooser = Chooser(BITRATES, 0.0)
    chooser.estimate(1_000_000, 10.2)
    assert chooser.look(2_764_800, 10.5, missed=0.8) == 3
    assert chooser.choked


def test_who_gets_the_better_part_goes_down_by_its_estimate_and_not_at_once() -> None:
    chooser = Chooser(BITRATES, 0.0)
    rungs = []
    for half in range(21, 25):
        chooser.estimate(1_500_000, half / 2)
        rungs.append(chooser.look(2_764_800, half / 2, missed=0.3))
    assert rungs == [0, 0, 1, 1]
    assert not chooser.choked


def test_reports_of_what_was_before_a_step_do_not_lead_to_the_next_one() -> None:
    chooser = Chooser(BITRATES, 0.0)
    for half in range(21, 24):
        chooser.estimate(1_500_000, half / 2)
        chooser.report(0.3, 0.02, half / 2)
        chooser.look(2_764_800, half / 2)
    assert chooser.rung == 1
    chooser.report(0.3, 0.3, 11.9)
    chooser.estimate(500_000, 11.9)
    assert chooser.look(1_555_200, 12.0, missed=0.3) == 1


def test_an_estimate_from_better_times_brings_the_next_probe_sooner() -> None:
    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        return (200_000, 0.8, 0.02) if 5 <= now < 6 else (5_000_000, 0.0, 0.02)

    rungs = climb(link, 30)
    assert rungs[2 * 6] == 3
    assert rungs.index(0, 2 * 6) <= 2 * (6 + 3 + 3 * 4.5)


def test_an_estimate_alone_moves_nobody() -> None:
    """A busy receiver's estimate dips for a moment, a still picture's never was higher: nothing is lost or late."""
    chance = random.Random(1)
    assert set(climb(lambda now, sent: (30_000 if chance.random() < 0.2 else sent, 0.0, 0.02), 600)) == {0}


def test_radio_that_loses_a_little_moves_nobody() -> None:
    chance = random.Random(2)
    assert set(climb(lambda now, sent: (int(sent * 1.2), chance.uniform(0.0, 0.08), 0.05), 600)) == {0}


def test_a_receiver_without_estimates_is_moved_by_heavy_loss() -> None:
    rungs = climb(lambda now, sent: (None, max(0.0, 1 - 1_000_000 / sent), 0.02), 60)
    assert rungs[:8] == sorted(rungs[:8]) and 2 in rungs[:8]


def test_trials_that_fail_come_further_apart() -> None:
    rungs = climb(pipe(300_000), 900, can_probe=False)
    trials = [at / 2 for at, (one, two) in enumerate(itertools.pairwise(rungs)) if two < one]
    apart = [after - before for before, after in itertools.pairwise(trials)]
    assert apart == sorted(apart) and apart[0] > 15 and apart[-1] > 150


@settings(deadline=None)
@given(st.integers(200_000, 5_000_000))
def test_on_any_link_the_viewer_ends_where_it_fits(capacity: int) -> None:
    assume(not any(0 < 1 - capacity / bitrate <= LOSS for bitrate in BITRATES))  # fits nearly: either may be right
    rungs = climb(pipe(capacity), 600)
    fits = next(n for n, bitrate in enumerate(BITRATES) if bitrate <= capacity)
    assert rungs[-600:].count(fits) / 600 > 0.9


def test_an_old_report_is_not_believed() -> None:
    chooser = Chooser(BITRATES, 0.0)
    chooser.estimate(100_000, 0.0)
    chooser.report(0.5, 1.0, 0.0)
    assert chooser.look(2_700_000, 0.0) == 0
    assert [chooser.look(2_700_000, now) for now in (4.0, 5.0, 6.0, 60.0)] == [0, 0, 0, 0]


def test_a_source_that_becomes_small_has_fewer_rungs_and_who_stood_below_them_goes_on() -> None:
    chooser = Chooser(BITRATES, 0.0)
    for step in range(1, 20):
        chooser.estimate(150_000, step / 2)
        chooser.report(0.2, 0.05, step / 2)
        chooser.look(2_800_000, step / 2)
    assert chooser.rung == len(BITRATES) - 1
    chooser.bitrates = (100_000,)
    for step in range(20, 200):
        chooser.estimate(3_000_000, step / 2)
        chooser.report(0.0, 0.05, step / 2)
        assert chooser.look(100_000, step / 2) == 0
        assert chooser.probe(step / 2) == 0
