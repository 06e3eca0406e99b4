"""All interleavings of two peers within bounds: in the end both are connected to each other, or both are idle."""

from __future__ import annotations

import pytest

from peer.negotiation import Negotiation, Phase
from tests.negotiation.counterparts import LegacyPage
from tests.negotiation.model import Bounds, Connection, Side, World, explore

pytestmark = pytest.mark.timeout(900)
"""An exploration takes up to 25 s of CPU, which can be minutes on a loaded machine. It is never stuck, only slow."""


def ours(me: str, remote: str, *, lossless: bool = False, named: bool = True) -> Side:
    return Side(me, Negotiation(me, remote), lossless=lossless, named=named)


def idle(side: Side) -> bool:
    return side.negotiation.phase is Phase.IDLE and not side.connections


def connected_to(side: Side, other: Side) -> bool:
    if side.negotiation.phase is not Phase.CONNECTED or side.deadline is not None or side.pending:
        return False
    match side.connections:
        case (Connection(name, remote, up=True, ufrag=ufrag, remote_ufrag=remote_ufrag),):
            return Connection(remote or "", name, True, remote_ufrag or "", ufrag) in other.connections
    return False


def disagreement(world: World) -> str | None:
    left, right = world.sides
    if (idle(left) and idle(right)) or (connected_to(left, right) and connected_to(right, left)):
        return None
    shown = (f"{side.negotiation.phase} {side.connections}" for side in world.sides)
    return f"the sides disagree at rest: {', '.join(shown)}"


def test_two_peers_without_loss_agree_before_any_deadline() -> None:
    """Also checks the exactly-once answer: no answer arrives without an unanswered offer."""
    world = World((ours("a", "b", lossless=True), ours("b", "a", lossless=True)))
    assert explore(world, Bounds(dials=3, hang_ups=2, deadlines=-1), disagreement) > 40_000


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(dials=3, hang_ups=2, losses=1),
        Bounds(dials=3, hang_ups=2, failures=1),
        Bounds(dials=3, hang_ups=2, refusals=1),
        Bounds(dials=3, hang_ups=2, leaves=1),
        Bounds(dials=3, hang_ups=2, candidates=1),
        Bounds(dials=2, hang_ups=1, losses=1, deadlines=1),
        Bounds(dials=1, hang_ups=1, losses=2, deadlines=2),
        Bounds(dials=1, hang_ups=1, losses=1, leaves=1, failures=1, deadlines=1),
        Bounds(dials=1, hang_ups=1, losses=1, candidates=1, refusals=1, deadlines=1),
    ],
    ids=str,
)
def test_two_peers_with_faults_agree(bounds: Bounds) -> None:
    world = World((ours("a", "b"), ours("b", "a")))
    assert explore(world, bounds, disagreement) > 1000


@pytest.mark.parametrize(("me", "page"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    "bounds", [Bounds(dials=2, hang_ups=2), Bounds(dials=2, hang_ups=1, losses=1, deadlines=1)], ids=str
)
def test_peer_against_legacy_page_ends_connected_or_idle(me: str, page: str, bounds: Bounds) -> None:
    def stuck(world: World) -> str | None:
        mine = world.sides[0]
        if idle(mine) or connected_to(mine, world.sides[1]):
            return None
        return f"stuck in {mine.negotiation.phase} with {mine.connections}"

    world = World((ours(me, page), LegacyPage(page, me)))
    assert explore(world, bounds, stuck) > 1000


def test_two_legacy_pages_disagree() -> None:
    """Proves that the check can fail: with one hang-up and a second call, two legacy pages show different states."""

    def disagreement_shown(world: World) -> str | None:
        left, right = world.sides
        if (
            left.negotiation.connected != right.negotiation.connected
            or left.negotiation.calling != right.negotiation.calling
        ):
            return "the sides disagree at rest"
        return None

    with pytest.raises(AssertionError, match="the sides disagree at rest"):
        explore(World((LegacyPage("a", "b"), LegacyPage("b", "a"))), Bounds(dials=2, hang_ups=1), disagreement_shown)
