"""Our page with our page, through our relay: what a person sees and hears."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.browser.rig import BLUE, GREEN, RED, Browser, Page, until
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser


async def connected(a: Page, b: Page) -> None:
    """Both sides say so, and see each other's moving picture."""
    await asyncio.gather(a.wait_state(b.id, "connected"), b.wait_state(a.id, "connected"))
    await asyncio.gather(a.wait_video(b.id), b.wait_video(a.id))


async def available(a: Page, b: Page, timeout: float = 1.0) -> None:
    """Neither side sees a call any more."""
    await asyncio.gather(
        a.wait_state(b.id, "available", timeout=timeout), b.wait_state(a.id, "available", timeout=timeout)
    )


async def test_call_shows_and_sounds_the_other_side(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", colour=RED, tone=440) as a:
        async with browser.page(site.page, "b", colour=GREEN, tone=1000) as b:
            await a.call("b")
            await connected(a, b)
            seen_by_a, seen_by_b = await a.wait_video("b"), await b.wait_video("a")
            assert (seen_by_a.width, seen_by_a.height) == (320, 180)
            assert seen_by_a.shows(GREEN) and not seen_by_a.shows(RED)
            assert seen_by_b.shows(RED) and not seen_by_b.shows(GREEN)
            heard_by_a, heard_by_b = await asyncio.gather(a.sound("b"), b.sound("a"))
            assert heard_by_a.level > -40 and abs(heard_by_a.frequency - 1000) < 15
            assert heard_by_b.level > -40 and abs(heard_by_b.frequency - 440) < 15


async def test_hang_up_is_seen_by_the_other_side_within_a_second(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        for quits in (b, a):
            started = time.monotonic()
            await quits.hang_up("a" if quits is b else "b")
            await available(a, b)
            assert time.monotonic() - started < 1.0
            assert await a.video("b") is None and await b.video("a") is None
            await a.call("b")
            await connected(a, b)


async def test_calls_again_in_every_direction(browser: Browser, site: Site) -> None:
    """Who hung up and who calls again, lower id or higher: the old page fails half of these."""
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        for quits, calls in ((a, b), (b, b), (a, a), (b, a)):
            await quits.hang_up(b.id if quits is a else a.id)
            await available(a, b)
            await calls.call(b.id if calls is a else a.id)
            await connected(a, b)


async def test_glare_ends_in_one_call(browser: Browser, site: Site) -> None:
    """Both click at once, in turns, until their offers have really crossed twice."""
    async with browser.page(site.page, "a", colour=RED) as a, browser.page(site.page, "b", colour=GREEN) as b:
        crossed = 0
        for first, second in ((a, b), (b, a)) * 5:
            await asyncio.gather(first.ready(second.id), second.ready(first.id))
            a.log.clear()
            b.log.clear()
            await asyncio.gather(first.call_now(second.id), second.call_now(first.id))
            await connected(a, b)
            assert (await a.wait_video("b")).shows(GREEN) and (await b.wait_video("a")).shows(RED)
            crossed += any("SendOffer" in line for line in a.log) and any("SendOffer" in line for line in b.log)
            if crossed == 2:
                return
            await first.hang_up(second.id)
            await available(a, b)
        raise AssertionError("their offers never crossed: that was no glare")


async def test_three_pages_make_a_mesh(browser: Browser, site: Site) -> None:
    async with (
        browser.page(site.page, "a", colour=RED) as a,
        browser.page(site.page, "b", colour=GREEN) as b,
        browser.page(site.page, "c", colour=BLUE) as c,
    ):
        await a.call("b")
        await c.call("a")
        await c.call("b")
        await asyncio.gather(connected(a, b), connected(a, c), connected(b, c))
        for page, others in ((a, {"b": GREEN, "c": BLUE}), (b, {"a": RED, "c": BLUE}), (c, {"a": RED, "b": GREEN})):
            for peer, colour in others.items():
                assert (await page.wait_video(peer)).shows(colour)
        await b.hang_up("a")
        await available(a, b)
        await asyncio.gather(connected(a, c), connected(b, c))


async def test_reload_keeps_the_id_and_can_be_called_at_once(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        kept = f"sessionStorage['seat {site.ws}']"
        seat = await b.tab.evaluate(kept)
        assert seat
        await b.tab.reload()
        await a.wait_state("b", "available", None, timeout=1.0)
        await b.wait_server("online")
        assert await b.tab.evaluate(kept) == seat
        assert await b.tab.inner_text("#my-id") == "b"
        await a.call("b")
        await connected(a, b)


async def test_closing_the_tab_ends_the_call_at_once(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a:
        async with browser.page(site.page, "b") as b:
            await a.call("b")
            await connected(a, b)
            await b.tab.goto("about:blank")
            await a.wait_state("b", None, timeout=1.0)
        assert await a.video("b") is None


async def test_calls_outlive_the_relay_and_both_come_back(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        await site.stop()
        await asyncio.gather(a.wait_server("offline"), b.wait_server("offline"))
        await connected(a, b)
        await site.start()
        await asyncio.gather(a.wait_server("online"), b.wait_server("online"))
        await connected(a, b)
        await a.hang_up("b")
        await available(a, b)
        await b.call("a")
        await connected(a, b)


async def test_hang_up_while_the_relay_is_away_is_seen_all_the_same(browser: Browser, site: Site) -> None:
    """Through the media connection itself: it says goodbye when it is closed in good order."""
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        await site.stop()
        await asyncio.gather(a.wait_server("offline"), b.wait_server("offline"))
        await a.hang_up("b")
        await b.wait_state("a", "available", None)
        await site.start()
        await asyncio.gather(a.wait_server("online"), b.wait_server("online"))
        await available(a, b, timeout=10)


async def test_page_without_camera_receives_and_says_so(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", camera="none") as a, browser.page(site.page, "b", colour=GREEN) as b:
        assert (
            await a.notice() == "No microphone or camera found: you see and hear others, they do not see or hear you."
        )
        for caller, callee in ((a, b), (b, a)):
            await caller.call(callee.id)
            await asyncio.gather(a.wait_state("b", "connected"), b.wait_state("a", "connected"))
            assert (await a.wait_video("b")).shows(GREEN)
            assert (await a.sound("b")).level > -40
            assert await b.video("a") is None
            await caller.hang_up(callee.id)
            await available(a, b)


async def test_switching_camera_and_microphone_off_is_seen_and_heard(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", colour=RED) as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        assert (await b.sound("a")).level > -40

        async def seen(low: int, high: int) -> bool:
            video = await b.video("a")
            return video is not None and all(low <= red <= high for red, _, _ in video.samples)

        async def heard(low: float, high: float) -> bool:
            return low <= (await b.sound("a", 0.2)).level <= high

        await a.tab.click("#mic")
        await a.tab.click("#camera")
        await until(lambda: seen(0, 30), lambda: "b still sees a picture")
        await until(lambda: heard(-300, -70), lambda: "b still hears a tone")
        await a.tab.click("#mic")
        await a.tab.click("#camera")
        await until(lambda: seen(150, 255), lambda: "b sees no picture")
        await until(lambda: heard(-40, 0), lambda: "b hears no tone")


async def test_call_made_before_the_camera_was_allowed_shows_it_once_it_is(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", camera="asked", colour=RED) as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await asyncio.gather(a.wait_state("b", "connected"), b.wait_state("a", "connected"))
        assert await b.video("a") is None
        await a.allow()
        assert (await b.wait_video("a")).shows(RED)


async def test_unplugged_camera_comes_back_into_the_call(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", colour=RED) as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        await a.unplug()
        await a.wait_notice("No microphone or camera found")
        assert await b.state("a") == "connected"
        await a.plug()
        assert (await b.wait_video("a")).shows(RED)
        await a.wait_notice("")


async def test_peer_that_crashes_is_gone_once_its_media_stopped(browser: Browser) -> None:
    """No goodbye at all: the relay's grace runs out, the picture stands still: both together end the call."""
    async with relay(grace=0.5) as site, browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        await b.crash()
        await a.wait_state("b", "silent", None)
        await a.wait_state("b", None)
        assert await a.video("b") is None


async def test_second_click_does_not_cancel_what_the_first_began(browser: Browser, site: Site) -> None:
    """A double click, and a call that comes in just as one was about to click Call."""
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.ready("b")
        await a.tab.dblclick("#peers tr[data-peer=b] button")
        await connected(a, b)
