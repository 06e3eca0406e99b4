"""A section that one side cannot use costs only that medium, whoever offers it."""

from __future__ import annotations

import asyncio

import pytest

from tests.browser.site import Site
from tests.interop.engines import Engine
from tests.interop.remote import AUDIO, DATA, VIDEO, VP9, HungUp, join
from tests.interop.situations import agent, connected, hears, media_both_ways, plays_tone, sections, stacks
from tests.waiting import until

pytestmark = pytest.mark.interop

ALL = stacks("firefox", "pion", "werift", "libdatachannel", long=["chromium"])
SOME = stacks("firefox", "pion", "libdatachannel", long=["chromium"])
"""Without werift, which accepts no answer that rejects one of its sections."""


@SOME
async def test_offered_data_channel_is_rejected_alone(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their", AUDIO, VIDEO, DATA) as remote:
        await cam.wait_for("their", 10)
        await remote.call("cam")
        await media_both_ways(await connected(cam, remote), remote)
        assert sections(remote.answers[-1])["application"] == 0


@SOME
async def test_offered_vp9_is_rejected_and_audio_flows(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their", AUDIO, VP9) as remote:
        await cam.wait_for("their", 10)
        await remote.call("cam")
        call = await connected(cam, remote)
        await asyncio.gather(hears(call), plays_tone(remote))
        assert sections(remote.answers[-1])["video"] == 0


@ALL
async def test_offer_of_audio_only_connects(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their", AUDIO) as remote:
        await cam.wait_for("their", 10)
        await remote.call("cam")
        await asyncio.gather(hears(await connected(cam, remote)), plays_tone(remote))


@ALL
async def test_offer_of_a_data_channel_only_is_declined(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their", DATA) as remote:
        await cam.wait_for("their", 10)
        with pytest.raises(HungUp, match="m=application"):
            await remote.call("cam")


@stacks("firefox", "pion", long=["chromium"])  # the others cannot reject a section
async def test_rejected_video_of_peer_leaves_audio(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their", AUDIO) as remote:
        remote.rejected = ("video",)
        await cam.wait_for("their", 10)
        call = cam.call("their")
        await call.connected()
        await asyncio.gather(hears(call), plays_tone(remote))
        assert sections(remote.sent[-1])["video"] == 0


@ALL
async def test_stack_without_media_receives_what_peer_offers(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their") as remote:
        await cam.wait_for("their", 10)
        call = cam.call("their")
        await call.connected()
        await remote.until_received(lambda now: now.frames >= 10 and now.frequency)
        await call.hang_up()
        await until(lambda: remote.hang_ups)
