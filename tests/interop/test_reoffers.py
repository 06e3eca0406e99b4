"""Further offers of other WebRTC stacks in a connected call: it stays the same call, on the same transport."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

import pytest

from peer import Call
from tests.browser.site import Site
from tests.interop.engines import Engine
from tests.interop.remote import AUDIO, VIDEO, Remote, join
from tests.interop.situations import (
    agent,
    connected,
    hears,
    measuring_gap,
    media_both_ways,
    plays_tone,
    sections,
    shows_pattern,
    stacks,
    stops_receiving_video,
    transport,
)

pytestmark = pytest.mark.interop

log = logging.getLogger(__name__)

MAX_GAP = 1.0
"""Longest time without media during a further offer, in seconds. It takes some 20 ms; a loaded machine pauses."""


@contextlib.asynccontextmanager
async def called(site: Site, engine: Engine, *sections: dict[str, str]) -> AsyncIterator[tuple[Remote, Call]]:
    """A call that the counterpart has made. It is still the same, and connected, at the end of the block."""
    async with agent(site) as cam, join(engine, site.ws, "their", *sections) as remote:
        await cam.wait_for("their", 10)
        await remote.call("cam")
        call = await connected(cam, remote)
        yield remote, call
        assert cam.calls["their"] is call and not remote.hang_ups
        await remote.hang_up()
        assert await call.ended() == "remote-hang-up"


@stacks("firefox", "werift", long=["chromium", "pion", "libdatachannel"])
async def test_unchanged_offer_keeps_the_transport(engine: Engine, site: Site) -> None:
    async with called(site, engine, AUDIO, VIDEO) as (remote, call):
        await media_both_ways(call, remote)
        first = remote.answers[-1]
        async with measuring_gap(call) as received, remote.measuring_gap() as sent:
            assert transport(await remote.reoffer()) == transport(first)
            await media_both_ways(call, remote)
        assert max(received.seconds, sent.seconds) < MAX_GAP


@stacks("pion", long=["firefox", "chromium", "werift", "libdatachannel"])
async def test_repeated_offer_gets_the_same_answer(engine: Engine, site: Site) -> None:
    async with called(site, engine, AUDIO, VIDEO) as (remote, call):
        await media_both_ways(call, remote)
        assert await remote.repeat_offer() == remote.answers[0]
        await media_both_ways(call, remote)


@stacks("firefox", long=["chromium"])  # pion cannot make a section inactive; werift forgets its path then
async def test_hold_stops_video_and_resume_brings_it_back(engine: Engine, site: Site) -> None:
    async with called(site, engine, AUDIO, VIDEO) as (remote, call):
        await media_both_ways(call, remote)
        await remote.set_direction("video", "inactive")
        await remote.reoffer()
        await stops_receiving_video(remote)
        await asyncio.gather(hears(call), plays_tone(remote))
        await remote.set_direction("video", "sendrecv")
        await remote.reoffer()
        await media_both_ways(call, remote)


@stacks("pion", long=["firefox", "chromium", "werift"])
async def test_video_paused_by_the_stack_resumes(engine: Engine, site: Site) -> None:
    async with called(site, engine, AUDIO, VIDEO) as (remote, call):
        await media_both_ways(call, remote)
        await remote.set_direction("video", "recvonly")
        await remote.reoffer()
        await asyncio.gather(hears(call), shows_pattern(remote), plays_tone(remote))
        await remote.set_direction("video", "sendrecv")
        await remote.reoffer()
        await media_both_ways(call, remote)


@stacks("firefox", "libdatachannel", long=["chromium", "pion", "werift"])
async def test_added_video_flows_both_ways(engine: Engine, site: Site) -> None:
    async with called(site, engine, AUDIO) as (remote, call):
        await asyncio.gather(hears(call), plays_tone(remote))
        await remote.add(VIDEO)
        await remote.reoffer()
        await media_both_ways(call, remote)


@stacks("firefox", long=["chromium", "pion", "werift"])
async def test_removed_video_leaves_audio(engine: Engine, site: Site) -> None:
    """Browsers remove the section; pion and werift make it inactive."""
    async with called(site, engine, AUDIO, VIDEO) as (remote, call):
        await media_both_ways(call, remote)
        await remote.stop("video")
        await remote.reoffer()
        assert sections(remote.offered)["video"] or not sections(remote.answers[-1])["video"]
        await asyncio.gather(hears(call), plays_tone(remote))


RESTARTING = stacks("firefox", "pion", "werift", long=["chromium"])
"""Without libdatachannel, which cannot restart ICE."""


@RESTARTING
async def test_ice_restart_keeps_media_flowing(engine: Engine, site: Site) -> None:
    async with called(site, engine, AUDIO, VIDEO) as (remote, call):
        await media_both_ways(call, remote)
        ufrag, fingerprint = transport(remote.answers[-1])
        async with measuring_gap(call) as received, remote.measuring_gap() as sent:
            restarted = transport(await remote.reoffer(ice_restart=True))
            await media_both_ways(call, remote)
        assert restarted[0] != ufrag and restarted[1] == fingerprint
        log.info("%s: longest gap %.3f s received, %.3f s sent", engine.name, received.seconds, sent.seconds)
        assert max(received.seconds, sent.seconds) < MAX_GAP


@stacks(long=["firefox", "chromium", "pion", "werift"])
async def test_two_ice_restarts_in_a_row_keep_media(engine: Engine, site: Site) -> None:
    async with called(site, engine, AUDIO, VIDEO) as (remote, call):
        for _ in range(2):
            await remote.reoffer(ice_restart=True)
        await media_both_ways(call, remote)


@stacks("firefox", long=["chromium", "pion"])  # werift's other session id then looks like a new call
async def test_plain_client_restarts_ice_and_adds_video(engine: Engine, site: Site) -> None:
    """A client that sends neither ``call`` nor ``round``."""
    async with agent(site) as cam, join(engine, site.ws, "their", AUDIO, plain=True) as remote:
        await cam.wait_for("their", 10)
        await remote.call("cam")
        call = await connected(cam, remote)
        await remote.reoffer(ice_restart=True)
        await asyncio.gather(hears(call), plays_tone(remote))
        await remote.add(VIDEO)
        await remote.reoffer()
        await media_both_ways(call, remote)
        assert cam.calls["their"] is call
