"""The access token of the page: where it comes from, what it opens, and where it must not appear."""

from __future__ import annotations

import playwright.async_api as pw
import pytest

from tests.browser.rig import RED, Browser
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser

TOKEN = "hush+hush/&=#é"
QUOTED = "hush%2Bhush%2F%26%3D%23%C3%A9"


async def seen(tab: pw.Page) -> str:
    """Everything in which a bystander could see the token, or which the user could copy."""
    return await tab.evaluate("location.href + document.documentElement.outerHTML + document.title")


async def test_token_in_the_link_admits_and_leaves_the_address(browser: Browser) -> None:
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


async def test_link_with_a_token_works_in_an_open_page(browser: Browser) -> None:
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", camera="none", online=False) as page:
        await page.wait_server("refused")
        await page.tab.evaluate("(token) => { location.hash = `token=${token}` }", QUOTED)
        await page.wait_server("online")
        assert "hush" not in page.tab.url


async def test_token_in_the_query_admits_and_leaves_the_address(browser: Browser) -> None:
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", camera="none", token=TOKEN) as page:
        assert "hush" not in page.tab.url and "id=a" in page.tab.url


async def test_missing_and_wrong_token_get_different_notices(browser: Browser) -> None:
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", camera="none", online=False) as page:
        for notice, token, state in (
            ("Access denied: this relay requires a token.", "wrong", "refused"),
            ("Access denied: the token is wrong.", TOKEN, "online"),
        ):
            await page.wait_notice(notice)
            await page.tab.click("#notice-action")
            await page.tab.fill("dialog [name=token]", token)
            async with page.tab.expect_event("load"):
                await page.tab.click("dialog button[type=submit]")
            await page.wait_server(state)
            assert "token" not in page.tab.url
        await page.tab.go_back()  # the history does not contain it either
        assert "token" not in page.tab.url


async def test_token_of_one_relay_is_not_sent_to_another(browser: Browser) -> None:
    async with (
        relay(token=TOKEN) as site,
        relay(token=TOKEN) as other,
        browser.page(site.page, "a", camera="none", token=TOKEN) as page,
    ):
        await page.tab.goto(f"{site.page}?id=a&server={other.ws}")
        await page.tab.click("#notice-action")
        await page.wait_notice("Access denied: this relay requires a token.")


async def test_page_of_another_origin_gets_no_connection(browser: Browser, site: Site) -> None:
    """DNS rebinding: relay.test is this machine, under a name that a stranger could own."""
    async with browser.page(site.page, "victim", camera="none") as victim:
        stranger = f"http://relay.test:{site.relay.port}/"
        async with browser.page(stranger, "stranger", camera="none", online=False) as page:
            await page.wait_server("offline")
            assert await victim.peers() == {}


async def test_devices_open_only_after_the_relay_admits_the_page(browser: Browser) -> None:
    """A rejected page must not turn on the camera's light, or ask for permission."""
    async with relay(token=TOKEN) as site, browser.page(site.page, "a", color=RED, online=False) as page:
        await page.wait_notice("Access denied")
        assert await page.tab.evaluate("rig.captures") == 0
        await page.tab.evaluate("dispatchEvent(new Event('pageshow'))")
        await page.tab.evaluate("navigator.mediaDevices.dispatchEvent(new Event('devicechange'))")
        assert await page.tab.evaluate("rig.captures") == 0
        await page.tab.evaluate("(token) => { location.hash = `token=${token}` }", QUOTED)
        await page.wait_server("online")
        assert (await page.wait_video()).shows(RED)
        assert await page.tab.evaluate("rig.captures") == 1
