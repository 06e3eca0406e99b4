"""The page with a real TURN server, which every call must use."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import playwright.async_api as pw
import pytest

from peer import Agent
from tests.browser.rig import Browser
from tests.browser.site import Site, relay
from tests.coturn import Coturn, coturn_with_secret
from tests.server.keys import secret
from tests.waiting import until

pytestmark = pytest.mark.browser

SECRET = "hush" * 8
TURN_ONLY = """
RTCPeerConnection = class extends RTCPeerConnection {
  constructor(configuration) { super({ ...configuration, iceTransportPolicy: "relay" }) }
}
"""


async def turn_only(tab: pw.Page) -> None:
    await tab.add_init_script(TURN_ONLY)


@contextlib.asynccontextmanager
async def site_with_turn(folder: Path, lifetime: float) -> AsyncIterator[tuple[Site, Coturn]]:
    async with (
        coturn_with_secret(folder, SECRET) as turn,
        relay(ice_servers=(turn.url,), turn_secret_file=secret(folder, SECRET), turn_lifetime=lifetime) as site,
    ):
        yield site, turn


async def test_calls_through_turn_use_the_newest_credentials(browser: Browser, tmp_path: Path) -> None:
    """Two calls. The credentials of the join expire between them."""
    async with site_with_turn(tmp_path, 4.0) as (site, turn):
        async with (
            Agent("node", server=site.ws, video="test", relay_only=True),
            browser.page(site.page, "page", camera="none", prepare=turn_only) as page,
        ):
            await page.call("node")
            await page.wait_state("node", "connected")
            await page.wait_video("node")
            await turn.allocated("page", "node")
            first = set(turn.allocations())
            now = time.time()
            await page.hang_up("node")
            await page.wait_state("node", "available")
            await until(lambda: time.time() > now + 6.1)
            await page.call("node")
            await page.wait_state("node", "connected")
            await until(
                lambda: {user.rpartition(":")[2] for user in set(turn.allocations()) - first} == {"page", "node"}
            )


@pytest.mark.legacy
async def test_legacy_pages_ignore_new_credentials(browser: Browser, legacy_site: str, tmp_path: Path) -> None:
    file = secret(tmp_path, SECRET)
    async with (
        relay(ice_servers=("turn:127.0.0.1:9",), turn_secret_file=file, turn_lifetime=1.0) as site,
        browser.legacy_page(legacy_site, site.ws) as a,
        browser.legacy_page(legacy_site, site.ws) as b,
    ):
        await asyncio.gather(a.wait_state(b.id, "available"), b.wait_state(a.id, "available"))
        before = site.relay.counters.delivered
        await until(lambda: site.relay.counters.delivered >= before + 6)
        assert await a.peers() == {b.id: "available"}
        await a.call(b.id)
        await asyncio.gather(a.wait_state(b.id, "connected"), b.wait_state(a.id, "connected"))
        assert not a.errors and not b.errors
