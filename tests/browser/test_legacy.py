"""The old programs, unchanged, beside ours: the old page on our relay, our page with the old page, the old server."""

from __future__ import annotations

import asyncio

import pytest

from tests.browser.rig import GREEN, RED, Browser, Page
from tests.browser.site import Site
from tests.legacy import go_server

pytestmark = [pytest.mark.browser, pytest.mark.legacy]


async def connected(a: Page, b: Page) -> None:
    """Both say so; a, red, and b, green, see each other."""
    await asyncio.gather(a.wait_state(b.id, "connected"), b.wait_state(a.id, "connected"))
    assert (await a.wait_video(b.id)).shows(GREEN)
    assert (await b.wait_video(a.id)).shows(RED)


async def test_old_pages_call_each_other_through_our_relay(browser: Browser, site: Site, old_site: str) -> None:
    async with (
        browser.old_page(old_site, site.ws, colour=RED) as a,
        browser.old_page(old_site, site.ws, colour=GREEN) as b,
    ):
        await a.wait_state(b.id, "available")
        await b.wait_state(a.id, "available")
        await a.call(b.id)
        await connected(a, b)
        assert (await b.sound(a.id)).level > -40
    assert not a.errors and not b.errors


async def test_old_page_alone_in_the_room_does_not_break(browser: Browser, site: Site, old_site: str) -> None:
    """The old server's first peer-list had no peers in it, and the old page died of that."""
    async with browser.old_page(old_site, site.ws) as a:
        await a.tab.wait_for_selector("text=Peers in Room (0)")
        async with browser.page(site.page, "new"):
            await a.wait_state("new", "available")
        await a.wait_state("new", None)
    assert not a.errors


@pytest.mark.parametrize("ours", ["aaa", "zzz"])
async def test_old_and_new_page_call_each_other_in_every_order(
    browser: Browser, site: Site, old_site: str, ours: str
) -> None:
    """Each hangs up, each calls again. The old one says nothing when it hangs up, and forgets nothing when we do:
    what it makes of a call after that is its own, so it starts anew for the second half."""
    async with browser.page(site.page, ours, colour=RED) as new:
        async with browser.old_page(old_site, site.ws, id="mmm", colour=GREEN) as old:
            await new.call("mmm")
            await connected(new, old)
            await old.hang_up(ours)
            await new.wait_state("mmm", "available")
            await old.call(ours)
            await connected(new, old)
            await old.hang_up(ours)
            await new.wait_state("mmm", "available")
            await new.call("mmm")
            await connected(new, old)
        await new.wait_state("mmm", None)


@pytest.mark.parametrize("ours", ["aaa", "zzz"])
async def test_glare_with_the_old_page_ends_in_one_call(
    browser: Browser, site: Site, old_site: str, ours: str
) -> None:
    async with (
        browser.page(site.page, ours, colour=RED) as new,
        browser.old_page(old_site, site.ws, id="mmm", colour=GREEN) as old,
    ):
        await asyncio.gather(new.ready("mmm"), old.ready(ours))
        await asyncio.gather(new.call_now("mmm"), old.call_now(ours))
        await connected(new, old)


async def test_our_page_works_on_the_old_server(browser: Browser, site: Site) -> None:
    """No peers in the first list, no errors, no hang-up lost: it passes on what it does not know."""
    with go_server() as server:
        async with (
            browser.page(site.page, "a", colour=RED, server=server) as a,
            browser.page(site.page, "b", colour=GREEN, server=server) as b,
        ):
            await a.call("b")
            await connected(a, b)
            await b.hang_up("a")
            await a.wait_state("b", "available", timeout=1)
            await b.call("a")
            await connected(a, b)
            await b.tab.goto("about:blank")
            await a.wait_state("b", None)


async def test_old_pages_on_the_old_server_are_what_they_were(browser: Browser, site: Site, old_site: str) -> None:
    """The measure itself. It needs somebody in the room first: see test_old_page_alone_in_the_room."""
    with go_server() as server:
        async with (
            browser.page(site.page, "somebody", server=server),
            browser.old_page(old_site, server, id="one", colour=RED) as one,
            browser.old_page(old_site, server, id="two", colour=GREEN) as two,
        ):
            await two.call("one")
            await connected(one, two)
