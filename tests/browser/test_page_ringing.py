"""The page's setting to ring instead of answering automatically: sound, Answer, Decline, and callers that give up."""

from __future__ import annotations

import asyncio
import json

import playwright.async_api as pw
import pytest

from peer import Agent
from tests.browser.rig import GREEN, RED, RELAXED, Browser, Page, until
from tests.browser.site import Site
from tests.browser.test_page_seat import SITE_DATA_BLOCKED
from tests.browser.test_page_wire import FakeRelay, joined

pytestmark = pytest.mark.browser

SWITCH = "#answer-automatically"
SILENCE = -100.0
"""Level in dBFS below which the page plays nothing. A tone of the ringer has -15."""


async def ring_calls(page: Page) -> None:
    """Turn automatic answering off, as a user does."""
    await page.tab.uncheck(SWITCH)


async def ringing(page: Page, peer: str) -> None:
    """Wait until the call of ``peer`` rings."""
    await page.wait_state(peer, "ringing")
    await page.tab.wait_for_selector(f'#ringing li[data-peer="{peer}"]')


async def test_answered_call_rings_until_answer_and_connects(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", color=RED) as a, browser.page(site.page, "b", color=GREEN) as b:
        await ring_calls(b)
        await a.call("b")
        await ringing(b, "a")
        assert await a.state("b") == "calling"
        assert await b.tab.title() == "a is calling"
        heard = await b.played(seconds=2.5)  # a pause is shorter
        assert heard.level > -30 and 420 < heard.frequency < 500
        await b.answer("a")
        await asyncio.gather(a.wait_state("b", "connected"), b.wait_state("a", "connected"))
        assert (await a.wait_video("b")).shows(GREEN) and (await b.wait_video("a")).shows(RED)
        assert (await b.played()).level < SILENCE
        assert await b.tab.title() == "b · Peers"


async def test_declined_call_ends_for_both_and_can_be_repeated(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "a", camera="none") as a, browser.page(site.page, "b", camera="none") as b:
        await ring_calls(b)
        for _ in range(2):
            await a.call("b")
            await ringing(b, "a")
            await b.decline("a")
            await a.tab.get_by_role("log").get_by_text("b declined.").last.wait_for()
            await asyncio.gather(a.wait_state("b", "available"), b.wait_state("a", "available"))
            assert await b.tab.locator("#ringing li").count() == 0


async def test_call_canceled_while_ringing_is_a_missed_call(browser: Browser, site: Site) -> None:
    """The canceled offer gets its one reply: without it, the caller could not call again before its time-out."""
    async with browser.page(site.page, "a", camera="none") as a, browser.page(site.page, "b", camera="none") as b:
        await ring_calls(b)
        await a.call("b")
        await ringing(b, "a")
        await a.cancel("b")
        await b.wait_state("a", "available")
        await b.tab.get_by_role("log").get_by_text("Missed call from a.").wait_for()
        await a.call("b")
        await ringing(b, "a")
        await b.answer("a")
        await asyncio.gather(a.wait_state("b", "connected"), b.wait_state("a", "connected"))


async def test_call_of_a_peer_that_leaves_stops_ringing(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "b", camera="none") as b:
        await ring_calls(b)
        async with Agent("cam", server=site.ws, video="test", audio="none") as cam:
            await cam.wait_for("b", RELAXED)
            cam.call("b")
            await ringing(b, "cam")
        await b.wait_state("cam", None)
        await b.tab.wait_for_selector("#ringing li", state="detached")


async def test_call_of_a_peer_is_answered_with_its_candidates(browser: Browser, site: Site) -> None:
    """The caller's candidates arrive while the call rings, and are used once it is answered."""
    async with (
        Agent("cam", server=site.ws, video="test", audio="none", size=(320, 240)) as cam,
        browser.page(site.page, "b", camera="none") as b,
    ):
        await ring_calls(b)
        call = cam.call("b")
        await ringing(b, "cam")
        await b.answer("cam")
        await asyncio.wait_for(call.connected(), RELAXED)
        assert (await b.wait_video("cam")).width == 320


async def test_setting_survives_a_reload_and_applies_to_other_tabs(browser: Browser, site: Site) -> None:
    async with browser.page(site.page, "b", camera="none") as b:
        assert await b.tab.is_checked(SWITCH), "automatic answering is the default"
        async with b.tab.context.expect_page() as opening:
            await b.tab.evaluate("open(location.pathname + '?id=other')")
        other = Page(await opening.value, "other")
        await other.wait_server("online")
        await ring_calls(b)
        await until(lambda: _unchecked(other), lambda: "the other tab shows the old setting")
        await b.tab.reload()
        await b.wait_server("online")
        assert not await b.tab.is_checked(SWITCH)
        assert "Incoming calls ring." in await b.tab.inner_text("#stage-empty")
        await b.tab.check(SWITCH)
        async with browser.page(site.page, "a", camera="none") as a:
            await a.call("b")
            await b.wait_state("a", "connected")


async def _unchecked(page: Page) -> bool:
    return not await page.tab.is_checked(SWITCH)


async def test_setting_with_blocked_site_data_lasts_for_the_page(browser: Browser, site: Site) -> None:
    async def block(tab: pw.Page) -> None:
        await tab.add_init_script(SITE_DATA_BLOCKED)

    async with (
        browser.page(site.page, "a", camera="none") as a,
        browser.page(site.page, "b", camera="none", prepare=block) as b,
    ):
        await ring_calls(b)
        await a.call("b")
        await ringing(b, "a")


async def test_offer_in_glare_or_in_a_call_does_not_ring(browser: Browser, site: Site) -> None:
    """A peer that was dialed does not ring, and an offer during a call belongs to that call."""
    async with joined(browser, site, "b", "z") as (page, fake):
        await ring_calls(page)
        await page.call("b")
        sdp = (await fake.next("offer"))["sdp"]
        for _ in range(2):  # glare, which the lower id "b" wins; then another offer
            fake.send({"type": "offer", "from": "b", "to": "me", "sdp": sdp})
            assert (await fake.next("answer"))["to"] == "b"
        await page.call("z")
        await fake.next("offer")
        await page.cancel("z")
        fake.send(
            {"type": "offer", "from": "z", "to": "me", "sdp": sdp}
        )  # loses the glare against the canceled offer
        fake.send({"type": "peer-joined", "peerId": "last"})
        await page.wait_state("last", "available")
        assert await page.state("z") == "available"


async def test_every_offer_that_rings_gets_one_reply(browser: Browser, site: Site) -> None:
    """On the wire: silence while it rings, then `declined` in place of the answer; nothing after `no-answer`."""

    async def offer(fake: FakeRelay) -> None:
        fake.send({"type": "offer", "from": "b", "to": "me", "sdp": "v=0"})

    async with joined(browser, site, "b") as (page, fake):
        await ring_calls(page)
        for reason, replies in (("hang-up", 1), ("no-answer", 0)):
            await offer(fake)
            await ringing(page, "b")
            assert fake.messages.empty()
            fake.send({"type": "hang-up", "from": "b", "to": "me", "reason": reason})
            await page.wait_state("b", "available")
            sent = [fake.messages.get_nowait() for _ in range(fake.messages.qsize())]
            assert [message["reason"] for message in sent] == ["declined"] * replies, json.dumps(sent)


async def test_call_that_rings_for_a_minute_is_declined(browser: Browser, site: Site) -> None:
    fake = FakeRelay()

    async def prepare(tab: pw.Page) -> None:
        await fake.prepare(tab)
        await tab.clock.install()

    async with browser.page(site.page, "me", camera="none", online=False, prepare=prepare) as page:
        await fake.next("join")
        fake.send({"type": "peer-list", "peers": ["b"]})
        await page.wait_server("online")
        await ring_calls(page)
        fake.send({"type": "offer", "from": "b", "to": "me", "sdp": "v=0"})
        await ringing(page, "b")
        await page.tab.clock.run_for(58_000)
        assert await page.state("b") == "ringing"
        await page.tab.clock.run_for(3_000)
        assert (await fake.next("hang-up"))["reason"] == "declined"
        await page.wait_state("b", "available")
