"""The relay's page in Firefox: it calls a peer, and is called by one."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from peer.call import State
from peer.media.test_pattern import TONE
from tests.browser import rig
from tests.browser.site import Site
from tests.interop.engines import BrowserEngine
from tests.interop.firefox import Tab
from tests.interop.rtp import COLOR, FREQUENCY
from tests.interop.situations import agent, hears, sees, stacks
from tests.waiting import until

pytestmark = pytest.mark.interop

RIG = Path(rig.__file__).with_suffix(".js").read_text()
CALL = '#peers tr[data-peer="cam"] button[data-action=call]:not([aria-disabled=true])'
HANG_UP = '#peers tr[data-peer="cam"] button[data-action=hang-up]'
VIDEO = '#stage .card[data-peer="cam"] video'


@contextlib.asynccontextmanager
async def page(engine: BrowserEngine, site: Site) -> AsyncIterator[Tab]:
    """The page as peer ``page``, with a camera and a microphone like those of the other counterparts."""
    assert engine.firefox is not None
    async with engine.firefox.tab() as tab:
        await tab.add_init_script(f"{RIG}; rig.camera('own', {json.dumps(COLOR)}, {FREQUENCY});")
        await tab.goto(f"{site.page}?id=page&size=320x180&fps=15")
        yield tab


async def value(tab: Tab, function: str, *arguments: Any) -> Any:
    """Wait until ``function`` returns a true value in the page, and return it."""
    result = None

    async def reached() -> bool:
        nonlocal result
        result = await tab.call(function, *arguments)
        return bool(result)

    await rig.until(reached, lambda: f"{function} returned {result}", rig.RELAXED)
    return result


async def shows_pattern(tab: Tab) -> None:
    """Wait until the page has shown ten more frames of the test pattern's size."""
    frame = """async (selector) => {
      const video = document.querySelector(selector);
      return video && new Promise((shown) => video.requestVideoFrameCallback((_, frame) => shown(frame)));
    }"""
    first = await value(tab, frame, VIDEO)
    last = first
    while last["presentedFrames"] < first["presentedFrames"] + 10:
        last = await value(tab, frame, VIDEO)
    assert (last["width"], last["height"]) == (320, 240)


async def plays_tone(tab: Tab) -> None:
    """Wait until the page receives the tone of the test pattern."""
    heard = "async (selector, tone) => Math.abs((await rig.sound(selector, 0.3)).frequency - tone) < 25"
    await value(tab, heard, VIDEO, TONE)


@stacks("firefox")
async def test_page_calls_peer_and_is_called_by_it(engine: BrowserEngine, site: Site) -> None:
    async with agent(site) as cam, page(engine, site) as tab:
        await value(tab, "rig.click", CALL)
        await until(lambda: cam.peers.get("page") is State.CONNECTED, rig.RELAXED)
        call = cam.calls["page"]
        await asyncio.gather(sees(call), hears(call), shows_pattern(tab), plays_tone(tab))
        await value(tab, "rig.click", HANG_UP)
        assert await call.ended() == "remote-hang-up"
        call = cam.call("page")
        await call.connected()
        await asyncio.gather(sees(call), hears(call), shows_pattern(tab), plays_tone(tab))
        await call.hang_up()
        await value(tab, "(selector) => document.querySelector(selector) !== null", CALL)
