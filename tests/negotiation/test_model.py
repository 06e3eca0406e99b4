"""Every interleaving of two sides, within bounds: none in which they disagree for ever."""

from __future__ import annotations

import pytest

from peer.negotiation import Negotiation, Phase
from tests.negotiation.model import Connection, OldPage, Rules, Side, World, explore


def ours(me: str, remote: str, *, lossless: bool = False) -> Side:
    return Side(me, Negotiation(me, remote), lossless=lossless)


def idle(side: Side) -> bool:
    return side.core.phase is Phase.IDLE and not side.connections


def connected_to(side: Side, other: Side) -> bool:
    match side.connections:
        case (Connection(name, remote, up=True),):
            return side.core.phase is Phase.CONNECTED and Connection(remote or "", name, True) in other.connections
    return False


def disagreement(world: World) -> str | None:
    left, right = world.sides
    if (idle(left) and idle(right)) or (connected_to(left, right) and connected_to(right, left)):
        return None
    return f"at rest and apart: {left.core.phase} {left.connections}, {right.core.phase} {right.connections}"


def test_two_peers_always_agree_in_the_end_and_never_need_a_deadline() -> None:
    """Also: no answer ever comes to no offer, which is what exactly-once means on the wire."""
    world = World((ours("a", "b", lossless=True), ours("b", "a", lossless=True)))
    assert explore(world, Rules(dials=3, hang_ups=2, deadlines=-1), disagreement) > 40_000


@pytest.mark.parametrize(
    "rules",
    [
        Rules(dials=3, hang_ups=2, losses=1),
        Rules(dials=3, hang_ups=2, failures=1),
        Rules(dials=3, hang_ups=2, refusals=1),
        Rules(dials=3, hang_ups=2, leaves=1),
        Rules(dials=3, hang_ups=2, candidates=1),
        Rules(dials=2, hang_ups=1, losses=1, deadlines=1),
        Rules(dials=1, hang_ups=1, losses=2, deadlines=2),
        Rules(dials=1, hang_ups=1, losses=1, leaves=1, failures=1, deadlines=1),
        Rules(dials=1, hang_ups=1, losses=1, candidates=1, refusals=1, deadlines=1),
    ],
    ids=str,
)
def test_two_peers_agree_whatever_is_lost_late_refused_or_broken(rules: Rules) -> None:
    world = World((ours("a", "b"), ours("b", "a")))
    assert explore(world, rules, disagreement) > 1000


@pytest.mark.parametrize(("me", "page"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    "rules", [Rules(dials=2, hang_ups=2), Rules(dials=2, hang_ups=1, losses=1, deadlines=1)], ids=str
)
def test_against_the_old_page_ours_is_connected_or_idle_in_the_end(me: str, page: str, rules: Rules) -> None:
    def stuck(world: World) -> str | None:
        mine = world.sides[0]
        if idle(mine) or connected_to(mine, world.sides[1]):
            return None
        return f"stuck in {mine.core.phase} with {mine.connections}"

    world = World((ours(me, page), OldPage(page, me)))
    assert explore(world, rules, stuck) > 1000


def test_the_model_finds_the_old_pages_disagreement() -> None:
    """The check can fail: two old pages, one hang-up and one call too many."""

    def frozen(world: World) -> str | None:
        left, right = world.sides
        if left.core.connected != right.core.connected or left.core.calling != right.core.calling:
            return "at rest and apart"
        return None

    with pytest.raises(AssertionError, match="at rest and apart"):
        explore(World((OldPage("a", "b"), OldPage("b", "a"))), Rules(dials=2, hang_ups=1), frozen)
