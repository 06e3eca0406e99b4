"""A picture that stands still is counted as the W3C counts it."""

from __future__ import annotations

from peer.media.incoming.freezes import Freezes


def shown(freezes: Freezes, distances: list[float], now: float = 0.0) -> float:
    for distance in distances:
        now += distance
        freezes.picture(now)
    return now


def test_an_even_stream_never_freezes() -> None:
    freezes = Freezes()
    shown(freezes, [1 / 30, 1 / 25] * 100)
    assert freezes.count == 0


def test_a_pause_of_three_pictures_and_more_than_150_ms_is_one() -> None:
    freezes = Freezes()
    now = shown(freezes, [1 / 30] * 60)
    now = shown(freezes, [0.12, *[1 / 30] * 30], now)
    assert freezes.count == 0, "an eye forgives that"
    shown(freezes, [0.25], now)
    assert freezes.count == 1


def test_a_slow_stream_may_take_its_time() -> None:
    freezes = Freezes()
    now = shown(freezes, [0.5] * 40)
    shown(freezes, [1.2], now)
    assert freezes.count == 0


def test_while_nobody_looks_nothing_freezes() -> None:
    freezes = Freezes()
    now = shown(freezes, [1 / 30] * 60)
    freezes.pause()
    shown(freezes, [10.0, 1 / 30], now)
    assert freezes.count == 0
