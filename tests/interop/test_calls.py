"""Other WebRTC stacks call a peer, and are called by it: media both ways, and hang-up."""

from __future__ import annotations

import pytest

from tests.browser.site import Site
from tests.interop.engines import Engine
from tests.interop.remote import AUDIO, VIDEO, join
from tests.interop.situations import agent, connected, media_both_ways, stacks

pytestmark = pytest.mark.interop

ALL = stacks("firefox", "pion", "werift", "libdatachannel", long=["chromium"])


@ALL
async def test_stack_calls_peer_with_media_both_ways(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their", AUDIO, VIDEO) as remote:
        await cam.wait_for("their", 10)
        await remote.call("cam")
        call = await connected(cam, remote)
        await media_both_ways(call, remote)
        await remote.hang_up()
        assert await call.ended() == "remote-hang-up"


@ALL
async def test_peer_calls_stack_with_media_both_ways(engine: Engine, site: Site) -> None:
    async with agent(site) as cam, join(engine, site.ws, "their", AUDIO, VIDEO) as remote:
        await cam.wait_for("their", 10)
        call = cam.call("their")
        await call.connected()
        await media_both_ways(call, remote)
        await call.hang_up()
        assert await remote.until_hung_up() == "hang-up"
