"""The token of the page: where it comes from, and where it is not to be seen."""

from __future__ import annotations

import playwright.async_api as pw
import pytest

from tests.browser.rig import Browser
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser

TOKEN = "hush+hush/&=#é"
QUOTED = "hush%2Bhush%2F%26%3D%23%C3%A9"


async def seen(tab: pw.Page) -> str:
    """All that shows the token to who looks over a shoulder or copies the address."""
    return await tab.evaluate("location.href + document.documentElement.outerHTML + document.title")


async def test_a_token_in_the_link_lets_in_and_is_gone_from_the_address(browser: Browser) -> None:
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", camera="none", online=False) as page:
        await page.tab.goto(f"{site.page}?id=b#token={QUOTED}")
        await page.wait_server("online")
        assert page.tab.url == f"{site.page}?id=b"
        assert "hush" not in await seen(page.tab)
        await page.tab.reload()
        await page.wait_server("online")
        await page.tab.goto("about:blank")
        await page.tab.go_back()
        await page.wait_server("online")
        assert page.tab.url == f"{site.page}?id=b"


async def test_a_link_with_a_token_works_in_a_page_that_is_open(browser: Browser) -> None:
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", camera="none", online=False) as page:
        await page.wait_server("refused")
        await page.tab.evaluate("(token) => { location.hash = `token=${token}` }", QUOTED)
        await page.wait_server("online")
        assert "hush" not in page.tab.url


async def test_a_token_in_the_query_works_and_is_gone_too(browser: Browser) -> None:
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", camera="none", token=TOKEN) as page:
        assert "hush" not in page.tab.url and "id=a" in page.tab.url


async def test_without_a_token_the_page_asks_for_one(browser: Browser) -> None:
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", camera="none", online=False) as page:
        for token, state in (("wrong", "refused"), (TOKEN, "online")):
            await page.wait_notice("The relay does not let us in without its token.")
            await page.tab.click("#notice-action")
            await page.tab.fill("dialog [name=token]", token)
            async with page.tab.expect_event("load"):
                await page.tab.click("dialog button[type=submit]")
            await page.wait_server(state)
            assert "token" not in page.tab.url
        await page.tab.go_back()  # no entry of the history has it either
        assert "token" not in page.tab.url


async def test_the_token_of_one_relay_is_not_told_to_another(browser: Browser) -> None:
    async with (
        relay(token=TOKEN) as site,
        relay(token=TOKEN) as other,
        browser.page(site.page, "a", camera="none", token=TOKEN) as page,
    ):
        await page.tab.goto(f"{site.page}?id=a&server={other.ws}")
        await page.tab.click("#notice-action")
        await page.wait_notice("The relay does not let us in without its token.")


async def test_a_page_of_another_site_gets_no_connection(browser: Browser, site: Site) -> None:
    """relay.test is this machine under a name that could be anybody's: DNS rebinding."""
    async with browser.page(site.page, "victim", camera="none") as victim:
        stranger = f"http://relay.test:{site.relay.port}/"
        async with browser.page(stranger, "stranger", camera="none", online=False) as page:
            await page.wait_server("offline")
            assert await victim.peers() == {}
