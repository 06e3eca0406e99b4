"""What a person meets on the page: sound that a browser holds back, a phone's screen, a keyboard, a screen reader."""

from __future__ import annotations

import asyncio

import playwright.async_api as pw
import pytest

from tests.browser.rig import RED, RELAXED, Browser, launch
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser

STRICT = "--autoplay-policy=document-user-activation-required"
"""What browsers do with people: no sound before the first touch. The last flag of a name counts."""


async def test_sound_that_the_browser_holds_back_comes_with_a_tap(site: Site) -> None:
    """A page without a microphone, called before anybody touched it: the picture runs, and a button says so.

    Whatever Playwright evaluates counts as a touch. So the page is left alone until it says that sound is held back.
    """
    held_back = asyncio.Event()

    async def listen(tab: pw.Page) -> None:
        def read(message: pw.ConsoleMessage) -> None:
            if "held back" in message.text:
                held_back.set()

        tab.on("console", read)

    async with launch(STRICT) as strict, strict.page(site.page, "b", colour=RED) as b:
        async with strict.page(site.page, "a", camera="none", online=False, prepare=listen) as a:
            await b.call("a")
            await asyncio.wait_for(held_back.wait(), RELAXED)
            assert (await a.wait_video("b")).shows(RED)
            muted = "document.querySelector('#stage video').muted"
            assert await a.tab.evaluate(muted) is True
            button = a.tab.get_by_role("button", name="Tap for sound")
            await button.click()
            await button.wait_for(state="hidden")
            assert await a.tab.evaluate(muted) is False
            assert (await a.wait_video("b")).shows(RED)


async def test_fits_a_phone(browser: Browser, site: Site) -> None:
    """Nothing sticks out sideways, ids of 64 characters neither; what is tapped is 40 px high at least."""
    long = "x" * 64
    async with (
        browser.page(site.page, "a", camera="none", viewport=(320, 640)) as a,
        browser.page(site.page, long) as b,
    ):
        await b.call("a")
        await a.wait_state(long, "connected")
        await a.wait_video(long)
        assert await a.tab.evaluate("document.documentElement.scrollWidth") == 320
        heights = await a.tab.evaluate(
            "[...document.querySelectorAll('button')].map((b) => b.offsetHeight).filter((height) => height)"
        )
        assert len(heights) >= 5 and min(heights) >= 40


async def test_call_by_keyboard_keeps_the_focus(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await asyncio.gather(a.wait_state("b", "available"), b.wait_state("a", "available"))
        await a.tab.focus("#peers button")
        await a.tab.keyboard.press("Enter")
        await a.wait_state("b", "connected")
        focused = "document.activeElement.getAttribute('aria-label')"
        assert await a.tab.evaluate(focused) == "Hang Up b"
        await a.tab.wait_for_selector("#peers button:not([aria-disabled=true])")
        await a.tab.keyboard.press("Enter")
        await b.wait_state("a", "available", timeout=1)
        assert await a.tab.evaluate(focused) == "Call b"


async def test_everything_has_a_name_for_those_who_listen(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a") as a, browser.page(site.page, "b") as b:
        await a.call("b")
        await a.wait_state("b", "connected")
        await a.wait_video("b")
        heard = await a.tab.locator("body").aria_snapshot()
        for part in (
            'button "My id: a change"',
            'button "Microphone" [pressed]',
            'button "Camera" [pressed]',
            'rowheader "b"',
            'cell "Connected"',
            'button "Hang Up b"',
            'button "Hang up b"',
            'button "Full screen"',
            'heading "In the room 1"',
        ):
            assert part in heard, heard
        await b.hang_up("a")
        await a.tab.get_by_role("log").get_by_text("b hung up.").wait_for()


async def test_page_asks_nobody_else_for_anything(browser: Browser, site: Site) -> None:
    """No font, script or picture from elsewhere, and nothing that the relay does not have."""
    async with browser.page(site.page, "a", camera="none") as a:
        asked: list[str] = []
        failed: list[str] = []
        a.tab.on("request", lambda request: asked.append(request.url))
        a.tab.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        await a.tab.reload()
        await a.wait_server("online")
        assert len(asked) >= 9 and not failed
        assert all(url.startswith(site.page) for url in asked)


async def test_page_on_plain_http_receives_and_says_why(browser: Browser) -> None:
    """Browsers hide the camera, and locks, from pages that are neither on https nor on localhost."""
    async with relay(allow_origins=("*",)) as site:
        insecure = f"http://relay.test:{site.relay.port}/"
        async with browser.page(insecure, "a") as a, browser.page(site.page, "b", colour=RED):
            await a.wait_notice("Browsers give the microphone or camera only to pages on https or localhost: you see")
            await a.call("b")
            assert (await a.wait_video("b")).shows(RED)
