from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="session")
def one_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def ledger_redis(one_redis: RedisServer) -> RedisServer:
    """An empty Redis, for tests that leave it running."""
    with one_redis.client() as client:
        client.flushall()
    return one_redis
