"""What the tests of this folder have in common: a peer with a test pattern, and checks of its media."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
import pytest

from peer import Agent, Call
from peer.call import State
from peer.media.test_pattern import TONE, dominant_frequency
from tests.browser.site import Site
from tests.interop.remote import RELAXED, Gap, Remote, longest_gap
from tests.interop.rtp import COLOR, FREQUENCY, Received
from tests.waiting import until


def stacks(*names: str, long: Sequence[str] = ()) -> pytest.MarkDecorator:
    """Run a test once per stack; with those in ``long`` only in the long suite."""
    params = [*names, *(pytest.param(name, marks=pytest.mark.long) for name in long)]
    return pytest.mark.parametrize("engine", params, indirect=True)


PATTERN: dict[str, Any] = {"video": "test", "audio": "test", "size": (320, 240), "fps": 15}


@contextlib.asynccontextmanager
async def agent(site: Site, **options: Any) -> AsyncIterator[Agent]:
    """A peer ``cam`` that sends the test pattern."""
    async with Agent("cam", **({"server": site.ws} | PATTERN | options)) as cam:
        yield cam


async def connected(cam: Agent, remote: Remote) -> Call:
    """Wait until the call of ``remote`` is connected at both ends."""
    await until(lambda: cam.peers.get(remote.id) is State.CONNECTED, RELAXED)
    await remote.until_connected()
    return cam.calls[remote.id]


def sections(sdp: str) -> dict[str, int]:
    """Return the port of each section of a description, by kind; 0 for a rejected one."""
    return {kind: int(port) for kind, port in re.findall(r"^m=(\w+) (\d+)", sdp, re.MULTILINE)}


async def media_both_ways(call: Call, remote: Remote) -> None:
    """Wait until both decode the other's video and audio."""
    await asyncio.gather(sees(call), hears(call), shows_pattern(remote), plays_tone(remote))


@contextlib.asynccontextmanager
async def measuring_gap(call: Call) -> AsyncIterator[Gap]:
    """Measure the longest time without a frame received from the counterpart until the end of the block."""
    gap, started = Gap(), time.monotonic()
    arrivals: list[float] = []

    async def read() -> None:
        with call.encoded() as frames:
            async for frame in frames:
                arrivals.append(frame.arrival)

    reading = asyncio.create_task(read())
    try:
        yield gap
        gap.seconds = longest_gap(arrivals, started)
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def transport(sdp: str) -> tuple[str, str]:
    """Return the ICE username fragment and the first fingerprint of a description."""
    ufrag, fingerprint = re.search(r"^a=ice-ufrag:(\S+)", sdp, re.M), re.search(r"^a=fingerprint:(.+)$", sdp, re.M)
    assert ufrag and fingerprint
    return ufrag[1], fingerprint[1].strip()


async def stops_receiving_video(remote: Remote) -> None:
    """Wait until the counterpart decodes no video for 0.5 s."""
    seen, since = -1, 0.0

    def quiet(now: Received) -> bool:
        nonlocal seen, since
        if now.frames != seen:
            seen, since = now.frames, time.monotonic()
        return time.monotonic() - since > 0.5

    await remote.until_received(quiet)


async def sees(call: Call, tolerance: int = 40) -> None:
    """Wait until most of a decoded frame has the color that counterparts send."""
    async with asyncio.timeout(RELAXED):
        with call.frames() as frames:
            async for frame in frames:
                image = frame.to_ndarray(format="rgb24").astype(int)
                if np.mean(np.all(np.abs(image - COLOR) <= tolerance, axis=2)) > 0.5:
                    return


async def hears(call: Call) -> None:
    """Wait until the dominant frequency of half a second of audio is the one that counterparts send."""
    heard = []
    try:
        async with asyncio.timeout(RELAXED):
            with call.sound() as sound:
                while True:
                    samples = [(await sound.get()).to_ndarray().reshape(-1, 2)[:, 0] for _ in range(25)]
                    heard.append(dominant_frequency(np.concatenate(samples), 48_000))
                    if abs(heard[-1] - FREQUENCY) < 15:
                        return
    except TimeoutError:
        raise AssertionError(f"heard {heard} Hz") from None


async def shows_pattern(remote: Remote) -> None:
    """Wait until the counterpart has decoded ten more frames of the test pattern's size."""
    first = (await remote.received()).frames
    await remote.until_received(lambda now: now.frames >= first + 10 and (now.width, now.height) == (320, 240))


async def plays_tone(remote: Remote) -> None:
    """Wait until the counterpart plays the tone of the test pattern."""
    await remote.until_received(lambda now: abs(now.frequency - TONE) < 15)
