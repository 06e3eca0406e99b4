"""The page's seat: id, room and key, and what it shows when it cannot have them."""

from __future__ import annotations

import asyncio

import playwright.async_api as pw
import pytest

from tests.browser.rig import Browser, Page
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser

SITE_DATA_BLOCKED = """
    for (const storage of ["sessionStorage", "localStorage"]) {
        Object.defineProperty(window, storage, {
            get() { throw new DOMException("The document does not allow it", "SecurityError") },
        });
    }
    LockManager.prototype.request = () => Promise.reject(new DOMException("No locks either", "SecurityError"));
    delete AbortSignal.timeout; // as in Safari 15.4, which has locks
"""


async def test_random_id_reloaded_tab_keeps_it_new_tab_gets_another(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "", camera="none") as first:
        first_id = await first.tab.inner_text("#my-id")
        assert first_id.startswith("page-") and len(first_id) == 10
        await first.tab.reload()
        await first.wait_server("online")
        assert await first.tab.inner_text("#my-id") == first_id
        async with browser.page(site.page, "", camera="none") as second:
            assert await second.tab.inner_text("#my-id") != first_id
            await first.wait_state(await second.tab.inner_text("#my-id"), "available")


async def test_duplicated_tab_gets_its_own_seat(browser: Browser, site: Site) -> None:
    """Browsers copy sessionStorage into a tab that is opened from another, with the id and the key."""
    async with browser.page(site.page, "", camera="none") as first:
        first_id = await first.tab.inner_text("#my-id")
        async with first.tab.expect_popup() as opening:
            await first.tab.evaluate("open(location.href)")
        second = Page(await opening.value, "copy")
        await second.wait_server("online")
        second_id = await second.tab.inner_text("#my-id")
        assert second_id != first_id
        await first.wait_state(second_id, "available")
        await second.wait_state(first_id, "available")


async def test_taken_id_is_reported_and_joined_once_free(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "door", camera="none") as holder:
        async with browser.page(site.page, "door", camera="none", online=False) as other:
            await other.wait_notice("The id door is in use by another peer. Trying again.")
            await holder.tab.goto("about:blank")
            await other.wait_server("online")
            await other.wait_notice("No microphone or camera")


async def test_replaced_page_takes_its_seat_back_only_after_a_click(browser: Browser, site: Site) -> None:
    """Otherwise two windows would take the seat from each other forever."""
    async with browser.page(site.page, "door", camera="none") as first:
        name = f"seat {site.ws}"
        seat = await first.tab.evaluate("(name) => sessionStorage[name]", name)
        async with browser.page(site.page, "other", camera="none") as second:
            await second.tab.evaluate("([name, seat]) => (sessionStorage[name] = seat)", [name, seat])
            await second.tab.goto(f"{site.page}?id=door")
            await second.wait_server("online")
            await first.wait_notice("This id is now in use in another window.")
            await first.tab.click("#notice-action")
            await first.wait_server("online")
            await second.wait_notice("This id is now in use in another window.")


async def test_page_with_blocked_site_data_joins(browser: Browser, site: Site) -> None:
    """Without sessionStorage and locks the page joins, and a reload gets another id."""

    async def block(tab: pw.Page) -> None:
        await tab.add_init_script(SITE_DATA_BLOCKED)

    async with browser.page(site.page, "", camera="none", prepare=block) as page:
        first_id = await page.tab.inner_text("#my-id")
        await page.tab.reload()
        await page.wait_server("online")
        assert await page.tab.inner_text("#my-id") not in ("", first_id)
        async with browser.page(site.page, "door", camera="none", prepare=block) as door:
            await page.wait_state("door", "available")
            assert await door.tab.inner_text("#my-id") == "door"


async def test_duplicated_tab_without_abort_signal_timeout_is_detected(browser: Browser, site: Site) -> None:
    async def age(tab: pw.Page) -> None:
        await tab.context.add_init_script("delete AbortSignal.timeout")  # popups too

    async with browser.page(site.page, "", camera="none", prepare=age) as first:
        async with first.tab.expect_popup() as opening:
            await first.tab.evaluate("open(location.href)")
        second = Page(await opening.value, "copy")
        await second.wait_server("online")
        assert await second.tab.inner_text("#my-id") != await first.tab.inner_text("#my-id")


async def test_rooms_are_separate_on_the_page(browser: Browser, site: Site) -> None:
    async with (
        browser.page(site.page, "a", camera="none", room="hall") as a,
        browser.page(site.page, "b", camera="none", room="hall") as b,
        browser.page(site.page, "c", camera="none") as c,
    ):
        await asyncio.gather(a.wait_state("b", "available"), b.wait_state("a", "available"))
        assert await c.peers() == {} and "c" not in await a.peers()
        assert await a.tab.inner_text("#my-room") == "in hall"


async def test_dialog_with_a_new_id_rejoins_under_it(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", camera="none") as a, browser.page(site.page, "b", camera="none") as b:
        await a.tab.click("#open-settings")
        await a.tab.fill("dialog [name=id]", "not an id")
        await a.tab.click("dialog button[type=submit]")
        assert await a.tab.inner_text("#my-id") == "a", "the form rejects it"
        await a.tab.fill("dialog [name=id]", "renamed")
        await a.tab.click("dialog button[type=submit]")
        await b.wait_state("renamed", "available")
        await b.wait_state("a", None)


async def test_page_reconnects_when_the_relay_returns(browser: Browser) -> None:
    async with relay() as site, browser.page(site.page, "a", camera="none") as a:
        for _ in range(2):
            await site.stop()
            await a.wait_server("offline")
            call = a.tab.locator("#peers button")
            assert await call.count() == 0
            await site.start()
            await a.wait_server("online")
