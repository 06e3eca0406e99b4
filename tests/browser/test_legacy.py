"""The unchanged legacy page and server with ours: their page on our relay, both pages in a call, their server."""

from __future__ import annotations

import asyncio

import pytest

from tests.browser.rig import GREEN, RED, Browser, Page
from tests.browser.site import Site
from tests.legacy import go_server

pytestmark = [pytest.mark.browser, pytest.mark.legacy]


async def connected(a: Page, b: Page) -> None:
    """Wait until both are connected, and a (red) and b (green) see each other."""
    await asyncio.gather(a.wait_state(b.id, "connected"), b.wait_state(a.id, "connected"))
    assert (await a.wait_video(b.id)).shows(GREEN)
    assert (await b.wait_video(a.id)).shows(RED)


async def test_legacy_pages_call_each_other_through_our_relay(browser: Browser, site: Site, legacy_site: str) -> None:
    async with (
        browser.legacy_page(legacy_site, site.ws, color=RED) as a,
        browser.legacy_page(legacy_site, site.ws, color=GREEN) as b,
    ):
        await a.wait_state(b.id, "available")
        await b.wait_state(a.id, "available")
        await a.call(b.id)
        await connected(a, b)
        assert (await b.sound(a.id)).level > -40
    assert not a.errors and not b.errors


async def test_legacy_page_alone_in_the_room_does_not_fail(browser: Browser, site: Site, legacy_site: str) -> None:
    """The legacy server's first peer-list has no `peers`, and the legacy page crashes on that."""
    async with browser.legacy_page(legacy_site, site.ws) as a:
        await a.tab.wait_for_selector("text=Peers in Room (0)")
        async with browser.page(site.page, "new"):
            await a.wait_state("new", "available")
        await a.wait_state("new", None)
    assert not a.errors


@pytest.mark.parametrize("ours", ["aaa", "zzz"])
async def test_legacy_and_new_page_call_in_every_order(
    browser: Browser, site: Site, legacy_site: str, ours: str
) -> None:
    """Each hangs up, and each calls again. The legacy page sends no hang-up, and keeps its connection after ours: its
    next call then depends on that connection. It is therefore reloaded for the second half."""
    async with browser.page(site.page, ours, color=RED) as new:
        async with browser.legacy_page(legacy_site, site.ws, id="mmm", color=GREEN) as old:
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
async def test_glare_with_the_legacy_page_ends_in_one_call(
    browser: Browser, site: Site, legacy_site: str, ours: str
) -> None:
    async with (
        browser.page(site.page, ours, color=RED) as new,
        browser.legacy_page(legacy_site, site.ws, id="mmm", color=GREEN) as old,
    ):
        await asyncio.gather(new.ready("mmm"), old.ready(ours))
        await asyncio.gather(new.call_now("mmm"), old.call_now(ours))
        await connected(new, old)


async def test_page_on_the_legacy_server_calls_and_hangs_up(browser: Browser, site: Site) -> None:
    """Its first list has no peers, it sends no errors, and it forwards message types that it does not know."""
    with go_server() as server:
        async with (
            browser.page(site.page, "a", color=RED, server=server) as a,
            browser.page(site.page, "b", color=GREEN, server=server) as b,
        ):
            await a.call("b")
            await connected(a, b)
            await b.hang_up("a")
            await a.wait_state("b", "available", timeout=1)
            await b.call("a")
            await connected(a, b)
            await b.tab.goto("about:blank")
            await a.wait_state("b", None)


async def test_legacy_pages_on_the_legacy_server_call(browser: Browser, site: Site, legacy_site: str) -> None:
    """The reference. It needs a third peer in the room; see test_legacy_page_alone_in_the_room_does_not_fail."""
    with go_server() as server:
        async with (
            browser.page(site.page, "third", server=server),
            browser.legacy_page(legacy_site, server, id="one", color=RED) as one,
            browser.legacy_page(legacy_site, server, id="two", color=GREEN) as two,
        ):
            await two.call("one")
            await connected(one, two)
