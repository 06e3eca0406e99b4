"""The invariant of a cluster, by hypothesis: pure nodes and the real ledger, in any order of events."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.redis_server import RedisServer

from .world import Member, World


class Cluster(RuleBasedStateMachine):
    """Any sequence of events at three nodes. The invariant holds whenever all messages are delivered."""

    server: RedisServer

    @initialize()
    def start(self) -> None:
        self.world = World(self.server.client())

    def one_of(self, n: int) -> Member:
        return self.world.members[n % len(self.world.members)]

    def admitted(self, n: int) -> int | None:
        """An admitted client, chosen by ``n``."""
        conns = sorted(self.world.views)
        return conns[n % len(conns)] if conns else None

    @rule(n=st.integers(0, 2), id=st.sampled_from("abc"), room=st.sampled_from(["", "", "attic"]),
          key=st.sampled_from([None, "k", "k", "l"]), instance=st.sampled_from([None, "1", "1", "2"]))  # fmt: skip
    def join(self, n: int, id: str, room: str, key: str | None, instance: str | None) -> None:
        self.world.join(self.one_of(n), id, room, key, instance)

    @rule(n=st.integers(0, 9), clean=st.booleans())
    def end(self, n: int, clean: bool) -> None:
        open_ = sorted(self.world.member_of.keys() - self.world.closed.keys())
        if open_:
            self.world.end(open_[n % len(open_)], clean=clean)

    @rule(n=st.integers(0, 9), to=st.sampled_from(["a", "b", "c", None]))
    def send(self, n: int, to: str | None) -> None:
        conn = self.admitted(n)
        if conn is not None:
            self.world.send(conn, to)

    @rule(n=st.integers(0, 2), lose=st.sampled_from([False, False, False, True]))
    def send_batch(self, n: int, lose: bool) -> None:
        self.world.send_batch(self.one_of(n), lose=lose)

    @rule(n=st.integers(0, 2), most=st.integers(1, 5))
    def read_inbox(self, n: int, most: int) -> None:
        self.world.read_inbox(self.one_of(n), most)

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @precondition(lambda self: self.world.pinged)
    @rule(n=st.integers(0, 9))
    def pong(self, n: int) -> None:
        asked = sorted(self.world.pinged & self.world.views.keys())
        self.world.pinged.clear()
        if asked:
            self.world.pong(asked[n % len(asked)])

    @rule(seconds=st.sampled_from([0.5, 1.0, 2.5, 6.0]), frozen=st.sampled_from([None, None, None, 0, 1, 2]))
    def wait(self, seconds: float, frozen: int | None) -> None:
        self.world.advance(seconds, [] if frozen is None else [self.one_of(frozen)])

    @rule(n=st.integers(0, 2))
    def kill(self, n: int) -> None:
        self.world.kill(self.one_of(n))
        self.world.members.append(self.world.member())

    @rule(n=st.integers(0, 2))
    def stop(self, n: int) -> None:
        member = self.one_of(n)
        for conn, where in self.world.member_of.items():
            if where is member:
                self.world.views.pop(conn, None)
                self.world.closed.setdefault(conn, 1001)
        member.node.drain(self.world.now)
        self.world.settle()
        self.world.members.remove(member)
        self.world.members.append(self.world.member())

    @rule(empty=st.booleans())
    def restart(self, empty: bool) -> None:
        self.world.restart(empty=empty)

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.wait_out()
        world.check()
        for conn in sorted(world.member_of.keys() - world.closed.keys()):
            world.end(conn, clean=conn % 2 == 0)
        world.wait_out()
        world.check()
        assert world.leftovers() == set()
        world.redis.close()


@pytest.fixture(autouse=True)
def _server(ledger_redis: RedisServer) -> None:
    Cluster.server = ledger_redis


Cluster.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestCluster = pytest.mark.usefixtures("_server")(Cluster.TestCase)
