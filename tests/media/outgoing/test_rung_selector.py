"""Selection of a rung on simulated links."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from peer.media.outgoing.quality_ladder import ladder
from peer.media.outgoing.rung_selector import LOSS, MIN_RTT_WINDOW, RungSelector

BITRATES = tuple(rung.bitrate for rung in ladder(1280, 720, 30))

Link = Callable[[float, int], tuple[int | None, float, float]]
"""A simulated link: from the time and the bitrate sent to the viewer's estimate, loss and RTT."""


def run(link: Link, seconds: int, bitrates: tuple[int, ...] = BITRATES, *, can_probe: bool = True) -> list[int]:
    """Return the selected rung of each half second."""
    selector = RungSelector(bitrates, 0.0, can_probe=can_probe)
    rungs = []
    for half in range(seconds * 2):
        now, sent = half / 2, bitrates[selector.rung]
        estimate, loss, rtt = link(now, sent + selector.probe_bitrate(now))
        if estimate is not None:
            selector.set_estimate(estimate, now)
        selector.add_report(loss, rtt, now)
        rungs.append(selector.select(sent, now))
    return rungs


def constant_link(capacity: int, *, queue: float = 0.0) -> Link:
    """Return a link of ``capacity`` bit/s. The excess is lost, or delayed by ``queue`` seconds."""

    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        if sent <= capacity:
            return int(sent * 1.5), 0.0, 0.02
        return int(capacity * 0.85), 0.0 if queue else 1 - capacity / sent, 0.02 + queue

    return link


def test_fast_link_keeps_the_best_rung() -> None:
    assert set(run(constant_link(10_000_000), 600)) == {0}


def with_slow_estimate(link: Link) -> Link:
    """Return ``link`` with an estimate that falls at once and rises by 8% per second (draft-ietf-rmcat-gcc 5.5)."""
    last = [0.0, 1e9]

    def slow(now: float, sent: int) -> tuple[int | None, float, float]:
        estimate, loss, rtt = link(now, sent)
        assert estimate is not None
        last[:] = now, min(estimate, last[1] * 1.08 ** (now - last[0]))
        return int(last[1]), loss, rtt

    return slow


@pytest.mark.parametrize("queue", [0.0, 1.5])
def test_slow_link_gets_the_lowest_rung_and_keeps_it(queue: float) -> None:
    rungs = run(constant_link(300_000, queue=queue), 600)
    assert rungs.index(3) <= 2 * 6
    assert set(rungs[2 * 6 :]) == {3}, "only the probes fail"


def test_without_probes_the_next_rung_is_tried_rarely() -> None:
    rungs = run(constant_link(300_000), 600, can_probe=False)
    settled = rungs[20:]
    assert settled.count(3) / len(settled) > 0.95
    assert set(settled) == {2, 3}, "one rung at a time"


def test_first_move_down_follows_the_estimate() -> None:
    rungs = run(constant_link(1_500_000), 5)
    assert sorted(set(rungs)) == [0, 2]


@pytest.mark.parametrize("can_probe", [True, False])
def test_link_that_becomes_faster_is_used(can_probe: bool) -> None:
    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        return constant_link(300_000 if now < 30 else 10_000_000)(now, sent)

    rungs = run(with_slow_estimate(link), 120, can_probe=can_probe)
    assert rungs[59] == 3 and rungs[-1] == 0


def test_probe_grows_until_the_estimate_falls() -> None:
    selector = RungSelector(BITRATES, 0.0)
    now = 2.0
    selector.set_estimate(255_000, now)
    assert selector.select(2_764_800, now, nack_ratio=0.5) == 3
    while not selector.probe_bitrate(now) and now < 20:
        now += 0.5
        selector.set_estimate(255_000, now)
        selector.add_report(0.0, 0.02, now)
        selector.select(153_000, now)
    rates = [selector.probe_bitrate(now + later) for later in (0.0, 0.5, 1.0, 1.5, 2.5)]
    assert rates == sorted(rates) and rates[-1] == BITRATES[2] - BITRATES[3]
    selector.set_estimate(255_000, now + 1.0)
    assert selector.probe_bitrate(now + 1.0), "the estimate has not fallen"
    selector.set_estimate(210_000, now + 1.1)
    assert not selector.probe_bitrate(now + 1.1)
    assert selector.select(153_000, now + 1.1) == 3


def test_stalled_viewer_moves_to_the_lowest_rung_at_once() -> None:
    """The estimate is still falling, because it covers the time before."""
    selector = RungSelector(BITRATES, 0.0)
    selector.set_estimate(1_000_000, 10.2)
    assert selector.select(2_764_800, 10.5, nack_ratio=0.8) == 3
    assert selector.stalled


def test_partial_loss_moves_down_by_the_estimate_after_a_delay() -> None:
    selector = RungSelector(BITRATES, 0.0)
    rungs = []
    for half in range(21, 25):
        selector.set_estimate(1_500_000, half / 2)
        rungs.append(selector.select(2_764_800, half / 2, nack_ratio=0.3))
    assert rungs == [0, 0, 1, 1]
    assert not selector.stalled


def test_reports_about_the_previous_rung_do_not_move_again() -> None:
    selector = RungSelector(BITRATES, 0.0)
    for half in range(21, 24):
        selector.set_estimate(1_500_000, half / 2)
        selector.add_report(0.3, 0.02, half / 2)
        selector.select(2_764_800, half / 2)
    assert selector.rung == 1
    selector.add_report(0.3, 0.3, 11.9)
    selector.set_estimate(500_000, 11.9)
    assert selector.select(1_555_200, 12.0, nack_ratio=0.3) == 1


def test_high_estimate_brings_the_next_probe_sooner() -> None:
    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        return (200_000, 0.8, 0.02) if 5 <= now < 6 else (5_000_000, 0.0, 0.02)

    rungs = run(link, 30)
    assert rungs[2 * 6] == 3
    assert rungs.index(0, 2 * 6) <= 2 * (6 + 3 + 3 * 4.5)


def test_short_dips_of_the_estimate_alone_do_not_move() -> None:
    """The estimate of a busy receiver dips briefly. That of a static scene is low, but nothing is lost or late."""
    chance = random.Random(1)
    assert set(run(lambda now, sent: (30_000 if chance.random() < 0.2 else sent, 0.0, 0.02), 600)) == {0}


def test_light_loss_of_a_radio_link_does_not_move() -> None:
    chance = random.Random(2)
    assert set(run(lambda now, sent: (int(sent * 1.2), chance.uniform(0.0, 0.08), 0.05), 600)) == {0}


def test_heavy_loss_without_estimates_moves_down() -> None:
    rungs = run(lambda now, sent: (None, max(0.0, 1 - 1_000_000 / sent), 0.02), 60)
    assert rungs[:8] == sorted(rungs[:8]) and 2 in rungs[:8]


@pytest.mark.parametrize("can_probe", [True, False])
def test_longer_route_does_not_keep_the_viewer_down(can_probe: bool) -> None:
    """The RTT rises from 20 to 260 ms and stays: another route, not a queue."""

    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        estimate, loss, _ = constant_link(300_000 if 20 <= now < 30 else 10_000_000)(now, sent)
        return estimate, loss, 0.02 if now < 25 else 0.26

    rungs = run(with_slow_estimate(link), 180, can_probe=can_probe)
    assert rungs[2 * 29] == 3
    assert rungs[-1] == 0


@pytest.mark.parametrize("bogus", [0.0, -0.3, 0.001])
def test_bogus_rtt_sample_does_not_keep_the_viewer_down(bogus: float) -> None:
    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        estimate, loss, _ = constant_link(300_000 if 20 <= now < 30 else 10_000_000)(now, sent)
        return estimate, loss, bogus if now == 28 else 0.25

    rungs = run(with_slow_estimate(link), 180)
    assert rungs[2 * 29] == 3
    assert rungs[-1] == 0


def test_growing_queue_is_recognized_after_a_long_call() -> None:
    """The minimum of the window is that of an empty queue. The estimate alone would take longer to move down."""

    def link(now: float, sent: int) -> tuple[int | None, float, float]:
        return (int(sent * 0.8), 0.0, 0.05 + min(now - 300, 2.0)) if now >= 300 else (sent * 2, 0.0, 0.05)

    assert run(link, 304)[2 * 302 :] != [0] * 4


def test_minimum_rtts_are_bounded() -> None:
    selector = RungSelector(BITRATES, 0.0)
    for n in range(10_000):
        selector.add_report(0.0, 0.1 + n / 1e6, n / 100)
    assert len(selector._min_rtts) <= MIN_RTT_WINDOW


def test_failed_trials_become_rarer() -> None:
    rungs = run(constant_link(300_000), 900, can_probe=False)
    trials = [at / 2 for at, (one, two) in enumerate(itertools.pairwise(rungs)) if two < one]
    intervals = [after - before for before, after in itertools.pairwise(trials)]
    assert intervals == sorted(intervals) and intervals[0] > 15 and intervals[-1] > 150


@settings(deadline=None)
@given(st.integers(200_000, 5_000_000))
def test_viewer_settles_on_the_best_rung_that_fits(capacity: int) -> None:
    assume(not any(0 < 1 - capacity / bitrate <= LOSS for bitrate in BITRATES))  # either rung may be right
    rungs = run(constant_link(capacity), 600)
    fits = next(n for n, bitrate in enumerate(BITRATES) if bitrate <= capacity)
    assert rungs[-600:].count(fits) / 600 > 0.9


def test_old_report_is_ignored() -> None:
    selector = RungSelector(BITRATES, 0.0)
    selector.set_estimate(100_000, 0.0)
    selector.add_report(0.5, 1.0, 0.0)
    assert selector.select(2_700_000, 0.0) == 0
    assert [selector.select(2_700_000, now) for now in (4.0, 5.0, 6.0, 60.0)] == [0, 0, 0, 0]


def test_shorter_ladder_moves_the_viewer_up_to_its_lowest_rung() -> None:
    selector = RungSelector(BITRATES, 0.0)
    for step in range(1, 20):
        selector.set_estimate(150_000, step / 2)
        selector.add_report(0.2, 0.05, step / 2)
        selector.select(2_800_000, step / 2)
    assert selector.rung == len(BITRATES) - 1
    selector.bitrates = (100_000,)
    for step in range(20, 200):
        selector.set_estimate(3_000_000, step / 2)
        selector.add_report(0.0, 0.05, step / 2)
        assert selector.select(100_000, step / 2) == 0
        assert selector.probe_bitrate(step / 2) == 0
