"""How often the page retries while its relay is away or rejects it."""

from __future__ import annotations

import asyncio
from typing import Any

import playwright.async_api as pw
import pytest

from peer.signaling.client import SignalingClient
from peer.signaling.messages import Join
from tests.browser.rig import RELAXED, Browser
from tests.browser.site import Site, relay
from tests.waiting import until

pytestmark = pytest.mark.browser


async def test_refused_page_retries_every_second_and_a_half(browser: Browser, site: Site) -> None:
    refused: asyncio.Queue[pw.WebSocket] = asyncio.Queue()

    async def prepare(tab: pw.Page) -> None:
        await tab.clock.install()
        tab.on("websocket", lambda opened: opened.on("close", refused.put_nowait))

    async with browser.page(site.page, "me", camera="none", prepare=prepare) as page:
        await site.stop()
        await asyncio.wait_for(refused.get(), RELAXED)
        for _ in range(8):  # a doubled delay would have reached 10 s
            await page.tab.clock.run_for(1_500)
            await asyncio.wait_for(refused.get(), RELAXED)
        await site.start()
        await page.tab.clock.run_for(1_500)
        await page.wait_server("online")


@pytest.mark.parametrize(
    ("limit", "notice"),
    [
        ({"max_room_peers": 1}, "The room is full. Trying again."),
        (
            {"address_join_rate": 1, "exempt": ()},
            "The relay is limiting our requests: too many at once. Trying again.",
        ),
    ],
)
async def test_temporary_rejection_is_reported_and_retried_later(
    browser: Browser, limit: dict[str, Any], notice: str
) -> None:
    async def prepare(tab: pw.Page) -> None:
        await tab.clock.install()

    async with relay(**limit) as site:
        holder = SignalingClient(site.ws, Join("holder"), lambda _: None)
        joined = asyncio.ensure_future(holder.run())
        await until(lambda: holder.joined)
        async with browser.page(site.page, "me", camera="none", online=False, prepare=prepare) as page:
            await page.wait_notice(notice)
            joined.cancel()
            await asyncio.wait([joined])
            site.relay.admission._addresses._known.clear()  # a minute later
            await page.tab.clock.run_for(10_000)
            await page.wait_server("online")
