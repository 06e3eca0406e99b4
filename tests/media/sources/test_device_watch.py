"""Changes in /dev are noticed, with inotify and without."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from peer.media.sources import device_watch
from peer.media.sources.device_watch import DeviceWatch

DEADLINE = 20.0
"""Time limit in seconds, ample on a busy machine."""


class Changes:
    def __init__(self) -> None:
        self.count = 0
        self._changed = asyncio.Event()

    def __call__(self) -> None:
        self.count += 1
        self._changed.set()

    async def one(self) -> None:
        async with asyncio.timeout(DEADLINE):
            await self._changed.wait()
        self._changed.clear()


@asynccontextmanager
async def watched(dev: Path) -> AsyncIterator[Changes]:
    changes = Changes()
    watch = DeviceWatch(changes, dev)
    task = asyncio.create_task(watch.run())
    await changes.one()  # its first look
    yield changes
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture(params=["inotify", "polling"])
def dev(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "polling":

        def unavailable() -> None:
            raise OSError(24, "Too many open files")

        monkeypatch.setattr(device_watch, "_Inotify", unavailable)
        monkeypatch.setattr(device_watch, "_POLL_INTERVAL", 0.02)
    else:
        monkeypatch.setattr(device_watch, "_SAFETY_INTERVAL", DEADLINE)
    return tmp_path


async def test_camera_that_comes_and_goes_is_noticed(dev: Path) -> None:
    async with watched(dev) as changes:
        (dev / "video0").touch()
        await changes.one()
        (dev / "video0").unlink()
        await changes.one()


async def test_changed_permissions_are_noticed(dev: Path) -> None:
    (dev / "video0").touch(mode=0o600)
    async with watched(dev) as changes:
        (dev / "video0").chmod(0o660)
        await changes.one()


async def test_sound_card_in_a_new_folder_is_noticed(dev: Path) -> None:
    async with watched(dev) as changes:
        (dev / "snd").mkdir()
        (dev / "snd" / "pcmC0D0c").touch()
        await changes.one()
        (dev / "snd" / "pcmC1D0c").touch()
        await changes.one()


async def test_link_that_leads_to_another_node_is_noticed(dev: Path) -> None:
    (dev / "v4l" / "by-id").mkdir(parents=True)
    link = dev / "v4l" / "by-id" / "usb-cam"
    link.symlink_to("/dev/null")
    async with watched(dev) as changes:
        link.unlink()
        link.symlink_to("/dev/zero")
        await changes.one()


async def test_other_files_in_dev_change_nothing(dev: Path) -> None:
    async with watched(dev) as changes:
        (dev / "tty9").touch()
        (dev / "video0").touch()
        await changes.one()
        assert changes.count == 2


async def test_watch_without_dev_waits(dev: Path) -> None:
    async with watched(dev / "nowhere") as changes:
        assert changes.count == 1


async def test_ended_watch_leaves_no_descriptor(dev: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    async with watched(dev):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
