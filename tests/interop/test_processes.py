"""The program ``peer`` in a process of its own: a counterpart calls ``peer run``, and ``peer call`` calls it."""

from __future__ import annotations

import asyncio
import signal

import pytest

from tests.browser.site import Site
from tests.cli.program import TEST, Program
from tests.interop.engines import Engine
from tests.interop.remote import AUDIO, VIDEO, join
from tests.interop.situations import plays_tone, shows_pattern, stacks

pytestmark = pytest.mark.interop

SOME = stacks("pion", long=["firefox", "chromium", "werift", "libdatachannel"])


@SOME
async def test_stack_calls_peer_run(engine: Engine, site: Site) -> None:
    with Program("run", "--id", "cam", "--server", site.ws, "--json", *TEST) as node:
        await asyncio.to_thread(node.expect, "joined")
        async with join(engine, site.ws, "their", AUDIO, VIDEO) as remote:
            await remote.call("cam")
            await asyncio.gather(shows_pattern(remote), plays_tone(remote))
            frame = await asyncio.to_thread(node.expect, "first-frame", peer="their")
            assert (frame["width"], frame["height"]) == (160, 120)
            await remote.hang_up()
            assert (await asyncio.to_thread(node.expect, "ended"))["reason"] == "remote-hang-up"


@SOME
async def test_peer_call_calls_stack(engine: Engine, site: Site) -> None:
    async with join(engine, site.ws, "their", AUDIO, VIDEO) as remote:
        with Program("call", "their", "--id", "cam", "--server", site.ws, "--json", *TEST) as caller:
            await asyncio.to_thread(caller.expect, "first-frame", peer="their")
            await asyncio.gather(shows_pattern(remote), plays_tone(remote))
            caller.send(signal.SIGINT)
            assert await remote.until_hung_up() == "shutdown"
            assert await asyncio.to_thread(caller.wait) == 130
