"""Turns: who waits longest comes first, and nobody waits longer than the interval."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.renewal_queue import Rota


def test_who_waits_longest_comes_first_and_waits_again() -> None:
    rota: Rota[int] = Rota(10)
    assert rota.deadline is None and rota.due(99, 5) == []
    for who in (1, 2, 3):
        rota.had(who, float(who))
    assert rota.deadline == 11 and rota.due(10.9, 5) == []
    assert rota.due(12, 5) == [1, 2]
    assert rota.deadline == 13
    assert rota.due(22, 1) == [3], "no more than were asked for"
    assert rota.due(22, 5) == [1, 2]


def test_who_is_gone_is_forgotten() -> None:
    rota: Rota[int] = Rota(10)
    rota.had(1, 0)
    rota.forget(1)
    rota.forget(2)
    assert len(rota) == 0 and rota.due(99, 5) == []


@given(st.lists(st.tuples(st.sampled_from("hfd"), st.integers(0, 5), st.integers(0, 7))))
def test_nobody_is_forgotten_and_nobody_waits_longer(steps: list[tuple[str, int, int]]) -> None:
    """Against a plain table of who had a turn when, in any order of coming, going and time."""
    rota: Rota[int] = Rota(10)
    last: dict[int, int] = {}
    now = 0
    for step, who, pause in steps:
        now += pause
        if step == "h":
            rota.had(who, now)
            last[who] = now
        elif step == "f":
            rota.forget(who)
            last.pop(who, None)
        else:
            late = {who for who, had in last.items() if had + 10 <= now}
            assert set(rota.due(now, 100)) == late
            last |= dict.fromkeys(late, now)
        assert rota.deadline == min((had + 10 for had in last.values()), default=None)
