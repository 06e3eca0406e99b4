"""Calls between the page in Chromium and a peer: video and audio in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peer import Agent, Call
from peer.call import State
from peer.media.test_pattern import TONE, dominant_frequency
from tests.browser.rig import GREEN, RED, Browser, Color, LegacyPage, Page
from tests.browser.site import Site
from tests.legacy import go_server
from tests.media.clips import write_clip
from tests.waiting import until

pytestmark = pytest.mark.browser

PATTERN: dict[str, Any] = {"video": "test", "audio": "test", "size": (320, 240), "fps": 15}


@asynccontextmanager
async def agent(site: Site, id_: str, **options: Any) -> AsyncIterator[Agent]:
    async with Agent(id_, **({"server": site.ws} | PATTERN | options)) as made:
        yield made


async def sees(call: Call, color: Color, tolerance: int = 40) -> None:
    """Wait until most of a decoded frame has this color."""
    async with asyncio.timeout(10):
        with call.frames() as frames:
            async for frame in frames:
                image = frame.to_ndarray(format="rgb24").astype(int)
                if np.mean(np.all(np.abs(image - color) <= tolerance, axis=2)) > 0.5:
                    return


async def hears(call: Call, frequency: float) -> None:
    """Wait until the dominant frequency of half a second of audio is this one."""
    heard = []
    try:
        async with asyncio.timeout(10):
            with call.sound() as sound:
                while True:
                    samples = [(await sound.get()).to_ndarray().reshape(-1, 2)[:, 0] for _ in range(25)]
                    heard.append(dominant_frequency(np.concatenate(samples), 48_000))
                    if heard[-1] is not None and abs(heard[-1] - frequency) < 15:
                        return
    except TimeoutError:
        raise AssertionError(f"heard {heard} Hz, not {frequency}") from None


async def shows_pattern(page: Page, peer: str) -> None:
    """Check that the page shows the test pattern: its size, frames that advance, and several colors."""
    video = await page.wait_video(peer, frames=10)
    assert (video.width, video.height) == (320, 240)
    assert len({tuple(c // 64 for c in sample) for sample in video.samples}) > 1


async def plays_tone(page: Page, peer: str) -> None:
    heard = []
    async with asyncio.timeout(10):
        while True:
            heard.append(await page.sound(peer))
            if heard[-1].level > -50 and abs(heard[-1].frequency - TONE) < 25:
                return


async def connected(page: Page, cam: Agent, color: Color = RED) -> Call:
    """Wait until both are connected, and receive each other's video and audio."""
    await page.wait_state(cam.id, "connected")
    await until(lambda: cam.peers.get(page.id) is State.CONNECTED)
    call = cam.calls[page.id]
    await asyncio.gather(shows_pattern(page, cam.id), plays_tone(page, cam.id), sees(call, color), hears(call, 600))
    return call


async def at_once(page: Page, cam: Agent) -> Call:
    """Let both call: the peer creates its offer while the page's click is on its way to the browser."""
    click = "[...document.querySelectorAll('tr button')].find((b) => b.innerText === 'Call')?.click()"
    clicked = asyncio.ensure_future(page.tab.evaluate(click))
    await asyncio.wait([clicked], timeout=0.002)
    call = cam.call(page.id)
    await clicked
    return call


async def test_page_calls_peer_with_media_both_ways(browser: Browser, site: Site) -> None:
    async with agent(site, "cam") as cam, browser.page(site.page, "page", color=RED, tone=600) as page:
        await page.call("cam")
        await connected(page, cam)


@pytest.mark.parametrize("page_id", ["aaa", "zzz"])
async def test_calls_and_hang_ups_work_in_every_order(browser: Browser, site: Site, page_id: str) -> None:
    async with agent(site, "mmm") as cam, browser.page(site.page, page_id, color=RED, tone=600) as page:
        await cam.wait_for(page_id, 10)
        await page.wait_state("mmm", "available")
        for caller in ("page", "peer"):
            for ender in ("page", "peer"):
                if caller == "page":
                    await page.call("mmm")
                else:
                    cam.call(page_id)
                await page.wait_state("mmm", "connected")
                await until(lambda: cam.peers[page_id] is State.CONNECTED)
                await page.wait_video("mmm")
                call = cam.calls[page_id]
                async with asyncio.timeout(5):  # without a message, the silence takes 10 s to end the call
                    if ender == "page":
                        await page.hang_up("mmm")
                        assert await call.ended() == "remote-hang-up"
                    else:
                        await call.hang_up()
                    await page.wait_state("mmm", "available")


@pytest.mark.parametrize("page_id", ["aaa", "zzz"])
async def test_glare_ends_in_one_call(browser: Browser, site: Site, page_id: str) -> None:
    async with agent(site, "mmm") as cam, browser.page(site.page, page_id, color=RED, tone=600) as page:
        await cam.wait_for(page_id, 10)
        await page.wait_state("mmm", "available")
        call = await at_once(page, cam)
        await connected(page, cam)
        assert cam.calls[page_id] is call


async def test_two_peers_and_a_page_form_a_mesh(browser: Browser, site: Site) -> None:
    async with agent(site, "one") as one, agent(site, "two") as two:
        async with browser.page(site.page, "page", color=GREEN) as page:
            await one.wait_for("two", 10)
            await two.wait_for("page", 10)
            await page.call("one")
            await asyncio.gather(one.call("two").connected(), two.call("page").connected())
            await asyncio.gather(page.wait_state("one", "connected"), page.wait_state("two", "connected"))
            await until(lambda: set(one.peers.values()) | set(two.peers.values()) == {State.CONNECTED})
            await asyncio.gather(
                shows_pattern(page, "one"),
                shows_pattern(page, "two"),
                sees(one.calls["page"], GREEN),
                sees(two.calls["page"], GREEN),
                one.calls["two"].first_frame(10),
                two.calls["one"].first_frame(10),
            )


async def test_reloaded_page_calls_the_peer_again(browser: Browser, site: Site) -> None:
    async with agent(site, "cam") as cam, browser.page(site.page, "page", color=RED, tone=600) as page:
        await page.call("cam")
        first = await connected(page, cam)
        await page.tab.reload()
        await page.wait_server("online")
        assert await first.ended() in ("remote-hang-up", "peer-left")
        await page.call("cam")
        await connected(page, cam)


async def test_call_with_a_peer_survives_a_restart_of_the_relay(browser: Browser, site: Site) -> None:
    async with agent(site, "cam") as cam, browser.page(site.page, "page", color=RED, tone=600) as page:
        await page.call("cam")
        call = await connected(page, cam)
        await site.stop()
        await page.wait_server("offline")
        await page.wait_video("cam", frames=10)
        await site.start()
        await page.wait_server("online", timeout=20)
        await cam.wait_for("page", 20)
        await page.wait_state("cam", "connected")
        assert cam.calls["page"] is call
        await page.hang_up("cam")
        assert await call.ended() == "remote-hang-up"


async def test_page_without_devices_receives_from_a_peer(browser: Browser, site: Site) -> None:
    async with agent(site, "cam") as cam, browser.page(site.page, "page", camera="none") as page:
        await page.call("cam")
        await page.wait_state("cam", "connected")
        await shows_pattern(page, "cam")
        await plays_tone(page, "cam")
        assert cam.peers["page"] is State.CONNECTED


async def test_h264_works_both_ways(browser: Browser, site: Site) -> None:
    async with agent(site, "cam", video_codec=("h264",)) as cam:
        async with browser.page(site.page, "page", color=RED, tone=600) as page:
            await page.call("cam")
            call = await connected(page, cam)
            assert (await call.first_frame()).codec == "h264"


async def test_page_says_that_the_camera_is_lost_and_back(browser: Browser, site: Site, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mkv", seconds=0.5, audio=False)
    async with (
        agent(site, "cam", video=f"{clip}?loop") as cam,
        browser.page(site.page, "page", camera="none") as page,
    ):
        await page.call("cam")
        await page.wait_state("cam", "connected")
        trouble = page.tab.locator(".card .trouble")
        assert await trouble.inner_text() == ""
        away = clip.rename(tmp_path / "away.mkv")
        await trouble.get_by_text("Camera missing").wait_for()
        away.rename(clip)
        await trouble.wait_for(state="hidden")
        assert cam.peers["page"] is State.CONNECTED


@pytest.mark.legacy
@pytest.mark.parametrize("ours", ["aaa", "zzz"])
async def test_legacy_page_and_peer_call_in_every_order(
    browser: Browser, site: Site, legacy_site: str, ours: str
) -> None:
    """The legacy page sends no hang-up and keeps closed connections, so only calls that it can make are tested."""
    async with agent(site, ours) as cam:
        async with browser.legacy_page(legacy_site, site.ws, id="mmm", color=RED, tone=600) as old:
            await old.call(ours)
            call = await connected(old, cam)
            await old.hang_up(ours)
            assert await call.ended() == "remote-hang-up"
            await cam.call("mmm").connected()
            await connected(old, cam)
            await old.hang_up(ours)
            await until(lambda: cam.peers["mmm"] is State.AVAILABLE)
            await old.call(ours)
            await connected(old, cam)
        await until(lambda: cam.peers == {})


@pytest.mark.legacy
@pytest.mark.parametrize("ours", ["aaa", "zzz"])
async def test_glare_of_legacy_page_and_peer_ends_in_one_call(
    browser: Browser, site: Site, legacy_site: str, ours: str
) -> None:
    async with agent(site, ours) as cam:
        async with browser.legacy_page(legacy_site, site.ws, id="mmm", color=RED, tone=600) as old:
            await cam.wait_for("mmm", 10)
            await old.wait_state(ours, "available")
            call = await at_once(old, cam)
            await connected(old, cam)
            assert cam.calls["mmm"] is call


@pytest.mark.legacy
async def test_legacy_server_serves_peers_and_the_legacy_page(browser: Browser, legacy_site: str) -> None:
    with go_server() as server:
        async with Agent(
            "aaa", **({"server": server} | PATTERN)
        ) as first:  # alone in the room: the list has no "peers"
            async with Agent("zzz", **({"server": server} | PATTERN)) as second:
                await first.wait_for("zzz", 10)
                async with first.call("zzz") as call:
                    await call.first_frame(10)
                    theirs = second.calls["aaa"]
                async with asyncio.timeout(1):
                    assert await theirs.ended() == "remote-hang-up"
                async with second.call("aaa") as call:
                    await call.first_frame(10)
                old: LegacyPage
                async with browser.legacy_page(legacy_site, server, id="mmm", color=RED, tone=600) as old:
                    await old.call("aaa")
                    await connected(old, first)
                    await second.call("mmm").connected()
                    await shows_pattern(old, "zzz")
