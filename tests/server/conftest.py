from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def ledger_redis() -> Iterator[RedisServer]:
    """A Redis for tests that only need one, and may empty it."""
    with redis_server() as server:
        yield server
