"""A camera that is unplugged and plugged in again: the watch of /dev, the locator and the source together."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Generator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from peer.media.sources import camera, capture, local_media
from peer.media.sources.camera_nodes import list_nodes
from peer.media.sources.device_watch import DeviceWatch
from peer.media.sources.handoff import Media
from peer.media.sources.local_media import LocalMedia, SourceBack, SourceLost, open_sources
from peer.media.sources.spec import AudioSpec, VideoSpec
from peer.media.test_pattern import Pattern
from tests.media.sources.camera_tree import CameraTree
from tests.waiting import on_this_machine, until

DEADLINE = 20.0
"""Time limit in seconds, ample on a busy machine."""

BACK_WITHIN = 2.0
"""The promise of docs/node.md, in seconds."""

_FRAME = Pattern(64, 64, 30).draw(0)


class Machine:
    """A machine with cameras that deliver while their device node exists."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tree = CameraTree(root)
        self.opened: list[str] = []
        monkeypatch.setattr(camera, "read", self._read)
        monkeypatch.setattr(local_media, "list_nodes", partial(list_nodes, self.tree.dev, self.tree.sysfs))
        monkeypatch.setattr(capture, "_BACKOFF", (DEADLINE, DEADLINE))  # what is found in time was watched

    def _read(self, path: str, _constraints: object, _flags: object, stop: threading.Event) -> Generator[Media]:
        if not Path(path).exists():
            raise FileNotFoundError(2, "No such file or directory")
        self.opened.append(path)
        while not stop.wait(0.01):
            if not Path(path).exists():
                raise OSError(19, "No such device")
            yield _FRAME

    @asynccontextmanager
    async def media(self, video: VideoSpec) -> AsyncIterator[LocalMedia]:
        media = await open_sources(video, AudioSpec("none"), unattended=True)
        watch = asyncio.create_task(DeviceWatch(media.devices_changed, self.tree.dev).run())
        yield media
        watch.cancel()
        await asyncio.wait([watch])
        await media.close()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize("video", [VideoSpec("auto"), VideoSpec("device", "HD Webcam")], ids=["auto", "name"])
async def test_camera_that_is_plugged_in_later_is_taken(machine: Machine, video: VideoSpec) -> None:
    async with machine.media(video) as media:
        (source,) = media.sources
        assert source.lost is not None and source.lost.cause == "missing"
        with source.failures.read(8) as failures:
            plugged, path = time.monotonic(), machine.tree.plug(0)
            assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE), SourceBack)
            assert time.monotonic() - plugged < on_this_machine(BACK_WITHIN)
        assert machine.opened == [path]


@pytest.mark.parametrize("watched", [True, False], ids=["in a call", "idle"])
@pytest.mark.parametrize("by", ["auto", "path"])
async def test_camera_returns_under_another_number(machine: Machine, by: str, watched: bool) -> None:
    path = machine.tree.plug(0, serial="AB12")
    async with machine.media(VideoSpec("auto") if by == "auto" else VideoSpec("device", path)) as media:
        (source,) = media.sources
        assert source.lost is None and media.video is not None
        with source.failures.read(8) as failures:
            reader = media.video.read() if watched else None
            if not watched:
                await until(lambda: not source.running, DEADLINE)
            unplugged = time.monotonic()
            machine.tree.unplug(0)
            lost = await asyncio.wait_for(failures.get(), DEADLINE)
            assert isinstance(lost, SourceLost) and lost.error.cause == "gone"
            assert time.monotonic() - unplugged < on_this_machine(BACK_WITHIN)
            machine.tree.plug(1, "Other", port="1-2")
            plugged, other = time.monotonic(), machine.tree.plug(2, serial="AB12")
            assert isinstance(await asyncio.wait_for(failures.get(), DEADLINE), SourceBack)
            assert time.monotonic() - plugged < on_this_machine(BACK_WITHIN)
            if reader is not None:
                await asyncio.wait_for(reader.get(), DEADLINE)
                reader.close()
        assert machine.opened == [path, other]
