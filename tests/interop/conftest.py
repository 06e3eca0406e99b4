"""Fixtures: each stack is started once per session; one relay per test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

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
async def start() -> AsyncIterator[Callable[[str], Awaitable[Engine]]]:
    """Start a stack, unless it runs already: a Firefox takes some 3 s."""
    running: dict[str, Engine] = {}
    async with contextlib.AsyncExitStack() as stack:

        async def start(name: str) -> Engine:
            if name not in running:
                running[name] = await stack.enter_async_context(launch(name))
            return running[name]

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def engine(request: pytest.FixtureRequest, start: Callable[[str], Awaitable[Engine]]) -> Engine:
    """The stack that the test names."""
    return await start(request.param)
