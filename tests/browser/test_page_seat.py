"""Who the page is: its id, its room, its key; and what it says when it cannot have them."""

from __future__ import annotations

import asyncio

import playwright.async_api as pw
import pytest

from tests.browser.rig import Browser, Page
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser

SITE_DATA_BLOCKED = """
    Object.defineProperty(window, "sessionStorage", {
        get() { throw new DOMException("The document does not allow it", "SecurityError") },
    });
    LockManager.prototype.request = () => Promise.reject(new DOMException("No locks either", "SecurityError"));
    delete AbortSignal.timeout; // as in Safari 15.4, which has locks
"""


async def test_tab_keeps_a_random_id_and_another_tab_gets_another(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "", camera="none") as first:
        first_id = await first.tab.inner_text("#my-id")
        assert first_id.startswith("page-") and len(first_id) == 10
        await first.tab.reload()
        await first.wait_server("online")
        assert await first.tab.inner_text("#my-id") == first_id
        async with browser.page(site.page, "", camera="none") as second:
            assert await second.tab.inner_text("#my-id") != first_id
            await first.wait_state(await second.tab.inner_text("#my-id"), "available")


async def test_duplicated_tab_does_not_fight_for_the_seat(browser: Browser, site: Site) -> None:
    """Browsers copy sessionStorage into a tab that is opened from another: same id, same key."""
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


async def test_taken_id_is_said_and_taken_over_when_it_is_free(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "door", camera="none") as holder:
        async with browser.page(site.page, "door", camera="none", online=False) as other:
            await other.wait_notice("Somebody else is here as door. Trying again.")
            await holder.tab.goto("about:blank")
            await other.wait_server("online")
            await other.wait_notice("No microphone or camera")


async def test_seat_taken_by_its_own_key_asks_before_it_is_taken_back(browser: Browser, site: Site) -> None:
    """Two windows that throw each other out for ever would be worse than one that waits for a click."""
    async with browser.page(site.page, "door", camera="none") as first:
        name = f"seat {site.ws}"
        seat = await first.tab.evaluate("(name) => sessionStorage[name]", name)
        async with browser.page(site.page, "other", camera="none") as second:
            await second.tab.evaluate("([name, seat]) => (sessionStorage[name] = seat)", [name, seat])
            await second.tab.goto(f"{site.page}?id=door")
            await second.wait_server("online")
            await first.wait_notice("You are here in another window now.")
            await first.tab.click("#notice-action")
            await first.wait_server("online")
            await second.wait_notice("You are here in another window now.")


async def test_works_where_site_data_is_blocked(browser: Browser, site: Site) -> None:
    """Neither sessionStorage nor locks: the page joins, and a reload is somebody new."""

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


async def test_duplicated_tab_is_noticed_without_abort_signal_timeout(browser: Browser, site: Site) -> None:
    async def age(tab: pw.Page) -> None:
        await tab.context.add_init_script("delete AbortSignal.timeout")  # popups too

    async with browser.page(site.page, "", camera="none", prepare=age) as first:
        async with first.tab.expect_popup() as opening:
            await first.tab.evaluate("open(location.href)")
        second = Page(await opening.value, "copy")
        await second.wait_server("online")
        assert await second.tab.inner_text("#my-id") != await first.tab.inner_text("#my-id")


async def test_rooms_do_not_see_each_other(browser: Browser, site: Site) -> None:
    async with (
        browser.page(site.page, "a", camera="none", room="hall") as a,
        browser.page(site.page, "b", camera="none", room="hall") as b,
        browser.page(site.page, "c", camera="none") as c,
    ):
        await asyncio.gather(a.wait_state("b", "available"), b.wait_state("a", "available"))
        assert await c.peers() == {} and "c" not in await a.peers()
        assert await a.tab.inner_text("#my-room") == "in hall"


async def test_dialog_changes_id_and_room(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", camera="none") as a, browser.page(site.page, "b", camera="none") as b:
        await a.tab.click("#who")
        await a.tab.fill("dialog [name=id]", "not an id")
        await a.tab.click("dialog button[type=submit]")
        assert await a.tab.inner_text("#my-id") == "a", "the form refuses it"
        await a.tab.fill("dialog [name=id]", "renamed")
        await a.tab.click("dialog button[type=submit]")
        await b.wait_state("renamed", "available")
        await b.wait_state("a", None)


async def test_comes_back_by_itself_when_the_relay_starts_late(browser: Browser) -> None:
    async with relay() as site, browser.page(site.page, "a", camera="none") as a:
        for _ in range(2):
            await site.stop()
            await a.wait_server("offline")
            call = a.tab.locator("#peers button")
            assert await call.count() == 0
            await site.start()
            await a.wait_server("online")
