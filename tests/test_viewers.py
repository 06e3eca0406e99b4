"""Several viewers of one node: what the node encodes once for all, and what each viewer receives."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from benchmarks.link_emulator import LinkEmulator
from peer import Agent, Call
from server.config import RelayConfig
from server.relay import Relay
from tests.media.clips import write_h264
from tests.waiting import until


@pytest.fixture
async def url() -> AsyncIterator[str]:
    relay = Relay(RelayConfig(port=0))
    await relay.start()
    yield relay.url
    await relay.stop()


async def viewers(stack: AsyncExitStack, url: str, count: int, node: str = "cam") -> list[Call]:
    """Return calls to ``node`` from ``count`` agents that send nothing."""
    calls = []
    for n in range(count):
        agent = await stack.enter_async_context(Agent(f"viewer-{n}", server=url))
        await agent.wait_for(node, timeout=10)
        call = agent.call(node)
        await call.first_frame(timeout=20)
        calls.append(call)
    return calls


def encoders() -> int:
    """Return the number of running video encoder threads."""
    return sum(thread.name.startswith(("encode vp8", "encode h264")) for thread in threading.enumerate())


async def test_viewers_of_one_codec_share_an_encoder_until_the_last(url: str) -> None:
    before = encoders()
    async with Agent("cam", server=url, video="test", size=(320, 180), fps=15), AsyncExitStack() as stack:
        calls = await viewers(stack, url, 4)
        assert encoders() == before + 1
        for call in calls:
            await call.hang_up()
        await until(lambda: encoders() == before)


async def test_each_requested_codec_has_one_encoder(url: str) -> None:
    before = encoders()
    async with Agent("cam", server=url, video="test", size=(320, 180), fps=15), AsyncExitStack() as stack:
        seen = []
        for n, codec in enumerate(("vp8", "h264", "h264", "vp8")):
            agent = await stack.enter_async_context(Agent(f"viewer-{n}", server=url, video_codec=(codec,)))
            await agent.wait_for("cam", timeout=10)
            seen.append((await agent.call("cam").first_frame(timeout=20)).codec)
        assert seen == ["vp8", "h264", "h264", "vp8"]
        assert encoders() == before + 2


async def test_h264_source_is_passed_through_by_default(url: str, tmp_path: Path) -> None:
    clip = write_h264(tmp_path / "clip.mp4", seconds=3, profile="high")
    before = encoders()
    async with Agent("cam", server=url, video=f"{clip}?loop") as cam, AsyncExitStack() as stack:
        [call] = await viewers(stack, url, 1)
        assert (await call.first_frame()).codec == "h264"
        mine = cam.calls["viewer-0"]
        async with asyncio.timeout(10):
            while not (await mine.stats()).video.get("passthrough"):
                await asyncio.sleep(0.1)
        assert cam._media.sources[0].decoded == 0
        await until(lambda: encoders() == before)


async def test_narrow_link_reduces_size_for_its_viewer_only(url: str) -> None:
    """One of two viewers of 640x360 gets 300 kbit/s with a queue of 0.3 s."""
    async with (
        Agent("cam", server=url, video="test", size=(640, 360), fps=30),
        LinkEmulator(url) as link,
        AsyncExitStack() as stack,
    ):
        [wide] = await viewers(stack, url, 1)
        agent = await stack.enter_async_context(Agent("narrow", server=link.url))
        await agent.wait_for("cam", timeout=10)
        narrow = agent.call("cam")
        await narrow.first_frame(timeout=20)
        with narrow.frames() as reduced, wide.frames() as full:
            link.rate = 300_000
            async with asyncio.timeout(60):
                while (await reduced.get()).width >= 640:
                    pass
            assert link.limited.dropped > 0
            async with asyncio.timeout(20):
                for _ in range(10):
                    assert (await reduced.get()).width < 640, "and the video continues"
                for _ in range(10):
                    assert (await full.get()).width == 640
