"""Two or three pages in calls with each other: video, audio, hang-ups, outages and devices."""

from __future__ import annotations

import asyncio

import pytest

from tests.browser.rig import BLUE, GREEN, RED, Browser, Page, until
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser


async def connected(a: Page, b: Page) -> None:
    """Wait until both sides are connected and receive video."""
    await asyncio.gather(a.wait_state(b.id, "connected"), b.wait_state(a.id, "connected"))
    await asyncio.gather(a.wait_video(b.id), b.wait_video(a.id))


async def available(a: Page, b: Page) -> None:
    """Wait until neither side shows a call."""
    await asyncio.gather(a.wait_state(b.id, "available"), b.wait_state(a.id, "available"))


async def ended_together(a: Page, b: Page) -> None:
    """Wait until neither side shows a call. Both have ended it within a second: by a message, not by silence."""
    await available(a, b)
    assert abs(await a.ended(b.id) - await b.ended(a.id)) < 1.0


async def test_call_carries_video_and_audio_both_ways(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", color=RED, tone=440) as a:
        async with browser.page(site.page, "b", color=GREEN, tone=1000) as b:
            await a.call("b")
            await connected(a, b)
            seen_by_a, seen_by_b = await a.wait_video("b"), await b.wait_video("a")
            assert (seen_by_a.width, seen_by_a.height) == (320, 180)
            assert seen_by_a.shows(GREEN) and not seen_by_a.shows(RED)
            assert seen_by_b.shows(RED) and not seen_by_b.shows(GREEN)
            heard_by_a, heard_by_b = await asyncio.gather(a.sound("b"), b.sound("a"))
            assert heard_by_a.level > -40 and abs(heard_by_a.frequency - 1000) < 15
            assert heard_by_b.level > -40 and abs(heard_by_b.frequency - 440) < 15


async def test_hang_up_reaches_the_remote_within_a_second(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        for quits in (b, a):
            await quits.hang_up("a" if quits is b else "b")
            await ended_together(a, b)
            assert await a.video("b") is None and await b.video("a") is None
            await a.call("b")
            await connected(a, b)


async def test_second_call_works_in_every_direction(browser: Browser, site: Site) -> None:
    """Either side hangs up, and either calls again. The legacy page fails in half of these cases."""
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        for quits, calls in ((a, b), (b, b), (a, a), (b, a)):
            await quits.hang_up(b.id if quits is a else a.id)
            await ended_together(a, b)
            await calls.call(b.id if calls is a else a.id)
            await connected(a, b)


async def test_glare_ends_in_one_call(browser: Browser, site: Site) -> None:
    """Both click at once, in alternating order, until their offers have crossed twice."""
    async with browser.page(site.page, "a", color=RED) as a, browser.page(site.page, "b", color=GREEN) as b:
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
            await ended_together(a, b)
        raise AssertionError("no glare: the offers never crossed")


async def test_three_pages_form_a_mesh(browser: Browser, site: Site) -> None:
    async with (
        browser.page(site.page, "a", color=RED) as a,
        browser.page(site.page, "b", color=GREEN) as b,
        browser.page(site.page, "c", color=BLUE) as c,
    ):
        await a.call("b")
        await c.call("a")
        await c.call("b")
        await asyncio.gather(connected(a, b), connected(a, c), connected(b, c))
        for page, others in ((a, {"b": GREEN, "c": BLUE}), (b, {"a": RED, "c": BLUE}), (c, {"a": RED, "b": GREEN})):
            for peer, color in others.items():
                assert (await page.wait_video(peer)).shows(color)
        await b.hang_up("a")
        await ended_together(a, b)
        await asyncio.gather(connected(a, c), connected(b, c))


async def test_reloaded_page_keeps_its_id_and_can_be_called(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        kept = f"sessionStorage['seat {site.ws}']"
        seat = await b.tab.evaluate(kept)
        assert seat
        reloaded = await b.now()
        await b.tab.reload()
        await a.wait_state("b", "available", None)
        assert await a.ended("b") - reloaded < 1.0
        await b.wait_server("online")
        assert await b.tab.evaluate(kept) == seat
        assert await b.tab.inner_text("#my-id") == "b"
        await a.call("b")
        await connected(a, b)


async def test_closed_tab_ends_the_call_at_once(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a:
        async with browser.page(site.page, "b") as b:
            await a.call("b")
            await connected(a, b)
            left = await b.now()
            await b.tab.goto("about:blank")
            await a.wait_state("b", None)
            assert await a.ended("b") - left < 1.0
        assert await a.video("b") is None


async def test_call_survives_a_restart_of_the_relay(browser: Browser, site: Site) -> None:
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
        await ended_together(a, b)
        await b.call("a")
        await connected(a, b)


async def test_hang_up_without_the_relay_reaches_the_remote(browser: Browser, site: Site) -> None:
    """The remote learns of it from DTLS: closing a connection sends a close_notify."""
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        await site.stop()
        await asyncio.gather(a.wait_server("offline"), b.wait_server("offline"))
        await a.hang_up("b")
        await b.wait_state("a", "available", None)
        await site.start()
        await asyncio.gather(a.wait_server("online"), b.wait_server("online"))
        await available(a, b)


async def test_page_without_devices_receives_and_reports_it(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", camera="none") as a, browser.page(site.page, "b", color=GREEN) as b:
        assert (
            await a.notice()
            == "No microphone or camera found: you can see and hear others, but they cannot see or hear you."
        )
        for caller, callee in ((a, b), (b, a)):
            await caller.call(callee.id)
            await asyncio.gather(a.wait_state("b", "connected"), b.wait_state("a", "connected"))
            assert (await a.wait_video("b")).shows(GREEN)
            assert (await a.sound("b")).level > -40
            assert await b.video("a") is None
            await caller.hang_up(callee.id)
            await ended_together(a, b)


async def test_muted_camera_and_microphone_send_black_and_silence(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", color=RED) as a, browser.page(site.page, "b") as b:
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
        await until(lambda: seen(0, 30), lambda: "b still sees video")
        await until(lambda: heard(-300, -70), lambda: "b still hears a tone")
        await a.tab.click("#mic")
        await a.tab.click("#camera")
        await until(lambda: seen(150, 255), lambda: "b sees no video")
        await until(lambda: heard(-40, 0), lambda: "b hears no tone")


async def test_camera_allowed_during_a_call_is_added_to_it(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", camera="asked", color=RED) as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await asyncio.gather(a.wait_state("b", "connected"), b.wait_state("a", "connected"))
        assert await b.video("a") is None
        await a.allow()
        assert (await b.wait_video("a")).shows(RED)


async def test_replugged_camera_returns_to_the_call(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", color=RED) as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        await a.unplug()
        await a.wait_notice("No microphone or camera found")
        assert await b.state("a") == "connected"
        await a.plug()
        assert (await b.wait_video("a")).shows(RED)
        await a.wait_notice("")


async def test_crashed_peer_leaves_once_its_media_stops(browser: Browser) -> None:
    """A crash sends no message. The call ends once the relay's grace is over and no media arrives."""
    async with relay(grace=0.5) as site, browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await connected(a, b)
        await b.crash()
        await a.wait_state("b", "silent", None)
        await a.wait_state("b", None)
        assert await a.video("b") is None


async def test_double_click_on_call_does_not_cancel(browser: Browser, site: Site) -> None:
    """Call becomes Cancel, which ignores the second click."""
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.ready("b")
        await a.tab.dblclick("#peers tr[data-peer=b] button")
        await connected(a, b)
