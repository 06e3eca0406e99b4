"""The invariant of a cluster in which every other node runs the released ledger, in any order of events."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import initialize

from tests.redis_server import RedisServer
from tests.released import released

from .test_node_life import Cluster
from .world import World


class MixedCluster(Cluster):
    """Any sequence of events. The nodes are ours; those with the released ledger neither send nor get instances."""

    released_ledger = ""

    @initialize()
    def start(self) -> None:
        self.world = World(self.server.client(), old_ledger=self.released_ledger)


@pytest.fixture(autouse=True)
def _server(ledger_redis: RedisServer) -> None:
    MixedCluster.server = ledger_redis
    MixedCluster.released_ledger = (released() / "server" / "cluster" / "ledger.lua").read_text()


MixedCluster.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestMixedCluster = pytest.mark.usefixtures("_server")(MixedCluster.TestCase)
