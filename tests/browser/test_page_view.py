"""The page as a user meets it: blocked sound, small screens, long ids, bright video, keyboards, screen readers."""

from __future__ import annotations

import asyncio
import io

import av
import numpy as np
import playwright.async_api as pw
import pytest

from tests.browser.rig import RED, RELAXED, WHITE, Browser, launch
from tests.browser.site import Site, relay

pytestmark = pytest.mark.browser

STRICT = "--autoplay-policy=document-user-activation-required"
"""The default of browsers: no sound before the first touch. Of two flags with the same name, the last one counts."""


async def test_blocked_sound_starts_with_a_tap(site: Site) -> None:
    """A page without a microphone is called before its user has touched it: the video plays, with a button for sound.

    A script that Playwright evaluates counts as a touch. The page is therefore left alone until it logs the block.
    """
    blocked = asyncio.Event()

    async def listen(tab: pw.Page) -> None:
        def read(message: pw.ConsoleMessage) -> None:
            if "blocks sound" in message.text:
                blocked.set()

        tab.on("console", read)

    async with launch(STRICT) as strict, strict.page(site.page, "b", color=RED) as b:
        async with strict.page(site.page, "a", camera="none", online=False, prepare=listen) as a:
            await b.call("a")
            await asyncio.wait_for(blocked.wait(), RELAXED)
            assert (await a.wait_video("b")).shows(RED)
            muted = "document.querySelector('#stage video').muted"
            assert await a.tab.evaluate(muted) is True
            button = a.tab.get_by_role("button", name="Tap for sound")
            await button.click()
            await button.wait_for(state="hidden")
            assert await a.tab.evaluate(muted) is False
            assert (await a.wait_video("b")).shows(RED)


async def test_page_on_a_phone_fits_and_has_large_buttons(browser: Browser, site: Site) -> None:
    """Nothing overflows sideways, not even an id of 64 characters, and buttons are at least 40 px high."""
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
        assert await a.tab.evaluate(focused) == "Hang up b"
        await a.tab.wait_for_selector("#peers button:not([aria-disabled=true])")
        await a.tab.keyboard.press("Enter")
        await b.wait_state("a", "available", timeout=1)
        assert await a.tab.evaluate(focused) == "Call b"


async def test_every_control_has_an_accessible_name(browser: Browser, site: Site) -> None:
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
            'button "Hang up b"',
            'button "Full screen"',
            'heading "In the room 1"',
        ):
            assert part in heard, heard
        assert heard.count('button "Hang up b"') == 2, "in the row and on the card"
        await b.hang_up("a")
        await a.tab.get_by_role("log").get_by_text("b hung up.").wait_for()


async def test_page_loads_nothing_from_other_origins(browser: Browser, site: Site) -> None:
    """All fonts, scripts and images come from the relay, and none is missing there."""
    async with browser.page(site.page, "a", camera="none") as a:
        requested: list[str] = []
        failed: list[str] = []
        a.tab.on("request", lambda request: requested.append(request.url))
        a.tab.on("response", lambda response: failed.append(response.url) if response.status >= 400 else None)
        await a.tab.reload()
        await a.wait_server("online")
        assert len(requested) >= 9 and not failed
        assert all(url.startswith(site.page) for url in requested)


async def test_page_on_plain_http_receives_and_gives_the_reason(browser: Browser) -> None:
    """Browsers hide the camera, and locks, from pages that are neither from https nor from localhost."""
    async with relay(allow_origins=("*",)) as site:
        insecure = f"http://relay.test:{site.relay.port}/"
        async with browser.page(insecure, "a") as a, browser.page(site.page, "b", color=RED):
            await a.wait_notice(
                "Browsers allow the microphone or camera only on pages from https or localhost: you can"
            )
            await a.call("b")
            assert (await a.wait_video("b")).shows(RED)


async def test_statistics_on_white_video_are_readable(browser: Browser, site: Site) -> None:
    """Measured on the screen: the contrast of text and background is at least 4.5 (WCAG 2.2, 1.4.3)."""
    async with (
        browser.page(site.page, "a", camera="none") as a,
        browser.page(site.page, "b", color=WHITE) as b,
    ):
        await b.call("a")
        assert (await a.wait_video("b")).shows(WHITE)
        facts = a.tab.locator("#stage .card .facts", has_text="320")
        await facts.wait_for()
        for caption in (facts, a.tab.locator("#stage .card .name")):
            assert contrast(await caption.screenshot()) >= 4.5


def contrast(png: bytes) -> float:
    """Contrast ratio (WCAG 2.2) of the lightest pixels, the text, and the most frequent ones, the background."""
    with av.open(io.BytesIO(png), format="png_pipe") as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24").reshape(-1, 3) / 255
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return float((luminance.max() + 0.05) / (np.median(luminance) + 0.05))


@pytest.mark.parametrize("viewport", [(320, 640), (1000, 700)])
async def test_long_id_leaves_statistics_and_buttons_in_sight(
    browser: Browser, site: Site, viewport: tuple[int, int]
) -> None:
    long = "W" * 64
    async with (
        browser.page(site.page, "a", camera="none", viewport=viewport) as a,
        browser.page(site.page, long) as b,
    ):
        await b.call("a")
        await a.tab.locator("#stage .card .facts", has_text="320").wait_for()
        outside = await a.tab.evaluate(
            """() => {
                const card = document.querySelector("#stage .card").getBoundingClientRect();
                const parts = [...document.querySelectorAll("#stage .card :is(.facts, .picture, .name, button)")];
                return parts.filter((part) => part.offsetWidth).filter((part) => {
                    const { left, right, width } = part.getBoundingClientRect();
                    return left < card.left || right > card.right || width < 10;
                }).map((part) => part.className);
            }"""
        )
        assert outside == []
        overlap = """() => document.querySelector("#stage .card .caption").getBoundingClientRect().right
            > document.querySelector("#stage .card .actions").getBoundingClientRect().left"""
        assert not await a.tab.evaluate(overlap)
        assert await a.tab.locator("#stage .card .name").get_attribute("title") == long
