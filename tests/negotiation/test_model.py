"""All interleavings of two peers within bounds: in the end both are connected to each other, or both are idle."""

from __future__ import annotations

import pytest
from _pytest.mark import ParameterSet

from peer.negotiation import Negotiation, Phase
from tests.negotiation.counterparts import LaterPeer, LegacyPage, ReofferingPeer
from tests.negotiation.model import Bounds, Connection, Side, World, explore
from tests.negotiation.released import ReleasedNegotiation, ReleasedPeer

pytestmark = pytest.mark.timeout(900)
"""An exploration takes up to 5 s of CPU, with ``-m long`` up to 60 s, which can be minutes on a loaded machine. It is
never stuck, only slow."""


def long(bounds: Bounds) -> ParameterSet:
    return pytest.param(bounds, marks=pytest.mark.long)


def ours(me: str, remote: str, *, lossless: bool = False, named: bool = True, repeats: bool = False) -> Side:
    return Side(me, Negotiation(me, remote), lossless=lossless, named=named, repeats=repeats)


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


@pytest.mark.parametrize(
    "bounds", [Bounds(dials=2, hang_ups=1, deadlines=-1), long(Bounds(dials=3, hang_ups=2, deadlines=-1))], ids=str
)
def test_two_peers_without_loss_agree_before_any_deadline(bounds: Bounds) -> None:
    """Also checks the exactly-once answer: no answer arrives without an unanswered offer."""
    world = World((ours("a", "b", lossless=True), ours("b", "a", lossless=True)))
    assert explore(world, bounds, disagreement) > 2_000


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(dials=2, hang_ups=1, losses=1),
        Bounds(dials=2, hang_ups=1, failures=1),
        Bounds(dials=2, hang_ups=1, refusals=1),
        Bounds(dials=2, hang_ups=0, leaves=1),
        Bounds(dials=1, hang_ups=1, candidates=1),
        Bounds(dials=2, hang_ups=0, restarts=1),
        Bounds(dials=1, hang_ups=1, losses=1, deadlines=1),
        Bounds(dials=1, hang_ups=1, losses=1, restarts=1),
        long(Bounds(dials=2, hang_ups=1, leaves=1)),
        long(Bounds(dials=2, hang_ups=1, restarts=1)),
        long(Bounds(dials=2, hang_ups=1, candidates=1)),
        long(Bounds(dials=2, hang_ups=2, losses=1)),
        long(Bounds(dials=2, hang_ups=1, losses=1, deadlines=1)),
        long(Bounds(dials=1, hang_ups=1, losses=2, deadlines=2)),
        long(Bounds(dials=1, hang_ups=1, losses=1, leaves=1, failures=1, deadlines=1)),
        long(Bounds(dials=1, hang_ups=1, losses=1, candidates=1, refusals=1, deadlines=1)),
        long(Bounds(dials=1, hang_ups=1, losses=1, restarts=2)),
    ],
    ids=str,
)
def test_two_peers_with_faults_agree(bounds: Bounds) -> None:
    world = World((ours("a", "b"), ours("b", "a")))
    assert explore(world, bounds, disagreement) > 500


@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(dials=1, hang_ups=1, repeats=1, losses=1),
        long(Bounds(dials=2, hang_ups=1, repeats=1)),
        long(Bounds(dials=1, hang_ups=1, repeats=2, losses=1, restarts=1)),
    ],
    ids=str,
)
def test_two_peers_that_repeat_offers_agree(bounds: Bounds) -> None:
    world = World((ours("a", "b", repeats=True), ours("b", "a", repeats=True)))
    assert explore(world, bounds, disagreement) > 500


@pytest.mark.parametrize(("me", "other"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(dials=1, hang_ups=1, further_offers=2),
        Bounds(dials=1, hang_ups=1, further_offers=1, candidates=1),
        long(Bounds(dials=1, hang_ups=1, further_offers=1, losses=1)),
        long(Bounds(dials=2, hang_ups=1, further_offers=1)),
    ],
    ids=str,
)
def test_peer_that_gets_second_offers_agrees(me: str, other: str, named: bool, bounds: Bounds) -> None:
    """A track is added, or ICE restarted, on the same connection (rule 3)."""
    world = World((ours(me, other), ReofferingPeer(other, Negotiation(other, me), named=named)))
    assert explore(world, bounds, disagreement) > 500


@pytest.mark.parametrize(("me", "other"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(dials=1, hang_ups=1, further_offers=2),
        Bounds(dials=1, hang_ups=1, further_offers=1, losses=1),
        Bounds(dials=1, hang_ups=0, further_offers=1, restarts=1),
        long(Bounds(dials=2, hang_ups=1, further_offers=1)),
        long(Bounds(dials=1, hang_ups=1, further_offers=1, failures=1, deadlines=1)),
    ],
    ids=str,
)
def test_peer_continued_by_a_later_version_agrees(me: str, other: str, bounds: Bounds) -> None:
    """The call goes on over a new connection, for both (rule 0 e)."""
    world = World((ours(me, other), LaterPeer(other, Negotiation(other, me))))
    assert explore(world, bounds, disagreement) > 500


@pytest.mark.parametrize(("me", "other"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(dials=2, hang_ups=1),
        Bounds(dials=1, hang_ups=1, losses=1, deadlines=1),
        long(Bounds(dials=2, hang_ups=1, losses=1)),
        long(Bounds(dials=2, hang_ups=1, leaves=1)),
    ],
    ids=str,
)
def test_peer_against_the_released_version_agrees(me: str, other: str, bounds: Bounds) -> None:
    world = World((ours(me, other), ReleasedPeer(other, ReleasedNegotiation(other, me))))
    assert explore(world, bounds, disagreement) > 500


@pytest.mark.parametrize(("me", "page"), [("a", "b"), ("b", "a")])
@pytest.mark.parametrize(
    "bounds",
    [
        Bounds(dials=2, hang_ups=1),
        long(Bounds(dials=2, hang_ups=2)),
        long(Bounds(dials=2, hang_ups=1, losses=1, deadlines=1)),
    ],
    ids=str,
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
