"""H.264 that a file delivers, in Chromium: sent as it is if that can be negotiated, otherwise transcoded."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal

import pytest

from peer import Agent
from tests.browser.rig import RED, Browser
from tests.browser.site import Site
from tests.browser.test_peer import sees
from tests.media.clips import write_h264
from tests.waiting import until

pytestmark = pytest.mark.browser


def _cam(site: Site, folder: Path, profile: str, b_frames: int = 0) -> Agent:
    path = write_h264(folder / "clip.mp4", seconds=4, profile=profile, b_frames=b_frames, size=(320, 240))
    return Agent("cam", server=site.ws, video=f"{path}?loop", audio="none", video_codec=("h264", "vp8"))


@pytest.mark.parametrize("caller", ["page", "cam"])
@pytest.mark.parametrize(("profile", "camera"), [("baseline", "own"), ("main", "own"), ("high", "none")])
async def test_h264_that_the_page_accepts_is_passed_through(
    browser: Browser, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    profile: str, camera: Literal["own", "none"], caller: str,
) -> None:  # fmt: skip
    """Chromium without hardware decoders accepts High only if it does not send: as High 4:4:4."""
    caplog.set_level(logging.INFO, "peer.media.outgoing.passthrough")
    async with (
        _cam(site, tmp_path, profile) as cam,
        browser.page(site.page, "page", camera=camera, color=RED) as page,
    ):
        if caller == "page":
            await page.call("cam")
        else:
            await cam.wait_for("page", timeout=10)
            await cam.call("page").connected()
        video = await page.wait_video("cam", frames=60)
        assert (video.width, video.height) == (320, 240)
        await until(lambda: "sent as it is" in caplog.text)
        assert cam._media.sources[0].decoded == 0
        if camera == "own":
            await sees(cam.calls["page"], RED)


@pytest.mark.parametrize(
    ("b_frames", "camera", "why"),
    [(2, "none", "it has B-frames"), (0, "own", "its profile is High, the viewer accepts Baseline")],
)
async def test_other_h264_is_transcoded_and_the_log_names_why(
    browser: Browser, site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    b_frames: int, camera: Literal["own", "none"], why: str,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO, "peer.media.outgoing.passthrough")
    async with (
        _cam(site, tmp_path, "high", b_frames) as cam,
        browser.page(site.page, "page", camera=camera, color=RED) as page,
    ):
        await page.call("cam")
        video = await page.wait_video("cam", frames=30)
        assert (video.width, video.height) == (320, 240)
        assert f"transcoded: {why}" in caplog.text
        assert cam._media.sources[0].decoded > 0
