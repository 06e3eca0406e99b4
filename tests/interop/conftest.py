"""Fixtures: each stack is started once per session; one relay per test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.browser.site import Site, relay
from tests.interop.engines import Engine, launch


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in one event loop, to which the stacks are bound."""
    for item in items:
        if "/interop/" in item.path.as_posix() and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """A relay on a free port."""
    async with relay() as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Engine]:
    """The stack that the test names."""
    async with launch(request.param) as engine:
        yield engine
