"""Fixtures: one Chromium for all tests, one relay per test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.browser.rig import Browser, launch
from tests.browser.site import Site, relay
from tests.legacy import old_page_site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run all tests of this folder in one event loop, to which Chromium is bound."""
    for item in items:
        if "/browser/" in item.path.as_posix() and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(loop_scope="session")
async def site() -> AsyncIterator[Site]:
    """A relay on a free port."""
    async with relay() as site:
        yield site


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with launch() as browser:
        yield browser


@pytest.fixture(scope="session")
def legacy_site() -> Iterator[str]:
    """URL of the legacy React page."""
    with old_page_site() as url:
        yield url
