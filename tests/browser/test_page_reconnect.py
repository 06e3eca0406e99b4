"""How often the page knocks while its relay is away."""

from __future__ import annotations

import asyncio

import playwright.async_api as pw
import pytest

from tests.browser.rig import RELAXED, Browser
from tests.browser.site import Site

pytestmark = pytest.mark.browser


async def test_a_refused_page_dials_each_second_and_a_half_however_often_it_failed(
    browser: Browser, site: Site
) -> None:
    refused: asyncio.Queue[pw.WebSocket] = asyncio.Queue()

    async def prepare(tab: pw.Page) -> None:
        await tab.clock.install()
        tab.on("websocket", lambda dialled: dialled.on("close", refused.put_nowait))

    async with browser.page(site.page, "me", camera="none", prepare=prepare) as page:
        await site.stop()
        await asyncio.wait_for(refused.get(), RELAXED)
        for _ in range(8):  # doubled each time this would be 10 s long since
            await page.tab.clock.run_for(1_500)
            await asyncio.wait_for(refused.get(), RELAXED)
        await site.start()
        await page.tab.clock.run_for(1_500)
        await page.wait_server("online")
