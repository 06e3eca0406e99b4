"""The screen of an X display as a source, on Xvfb."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest

from peer.errors import MediaError
from peer.media.sources import screen
from peer.media.sources.local_media import open_sources
from peer.media.sources.spec import AudioSpec, VideoSpec
from tests import x_server


@pytest.fixture
def display() -> Iterator[str]:
    """A display with a white root window."""
    with x_server.running("640x361", "-wr") as server:
        yield server.name


@pytest.mark.display
async def test_screen_delivers_its_content_at_even_size(display: str) -> None:
    media = await open_sources(VideoSpec("screen", display), AudioSpec("none"), fps=20)
    assert media.video is not None
    with media.video.read(2) as video:
        async with asyncio.timeout(10):
            taken = [await video.get() for _ in range(10)]
    await media.close()
    assert {(frame.width, frame.height, frame.pict_type) for frame in taken} == {(640, 360, 0)}
    assert np.median(np.diff([frame.time for frame in taken])) == pytest.approx(0.05, abs=0.02)
    assert taken[-1].to_ndarray(format="gray").mean() > 250


@pytest.mark.display
async def test_screen_missing_display_raises() -> None:
    with pytest.raises(MediaError, match="X display cannot be opened"):
        await open_sources(VideoSpec("screen", ":7654"), AudioSpec("none"))


def test_screen_without_display_variable_raises() -> None:
    with pytest.raises(MediaError, match="DISPLAY is not set"):
        screen.display("", {})
    assert screen.display("", {"DISPLAY": ":3"}) == ":3"
    assert screen.display(":1", {"DISPLAY": ":3"}) == ":1"
