"""Playout: windows and speaker follow the calls, and their failures cost a notice only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from peer import playout
from peer.call import Call
from peer.errors import MediaError
from peer.media.fanout import Fanout
from peer.media.windows.windows import LOCAL
from peer.playout import Playout


class RecordedWindows:
    """A stand-in for ``Windows`` that records its calls. ``start`` waits for ``ready``."""

    def __init__(self, tasks: asyncio.TaskGroup, on_close: Any, on_notice: Any) -> None:
        self.calls: list[Any] = []
        self.on_close = on_close
        self.on_notice = on_notice
        self.ready = asyncio.Event()

    async def start(self) -> bool:
        await self.ready.wait()
        self.calls.append("start")
        return True

    def show(self, key: str, title: str, frames: Any) -> None:
        self.calls.append(("show", key, title, frames))

    def hide(self, key: str) -> None:
        self.calls.append(("hide", key))

    async def close(self) -> None:
        self.calls.append("close")


class RecordedSpeaker:
    """A stand-in for ``Speaker`` that records its calls. A device named ``broken`` cannot play."""

    def __init__(
        self, tasks: asyncio.TaskGroup, device: str, on_notice: Any, on_state: Any, *, unattended: bool
    ) -> None:
        self.calls: list[Any] = []
        self.device = device

    async def open(self) -> bool:
        if self.device == "broken":
            raise MediaError("speaker broken", "no such device")
        self.calls.append("open")
        return True

    def add(self, key: str, audio: Any) -> None:
        self.calls.append(("add", key, audio))

    def remove(self, key: str) -> None:
        self.calls.append(("remove", key))

    def retry_now(self) -> None:
        self.calls.append("retry")

    async def close(self) -> None:
        self.calls.append("close")


@pytest.fixture(autouse=True)
def _recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playout, "Windows", RecordedWindows)
    monkeypatch.setattr(playout, "Speaker", RecordedSpeaker)


closed: list[str] = []
notices: list[str] = []
"""Calls of ``on_close`` and ``on_notice``."""


def make(tasks: asyncio.TaskGroup, *, show: bool = True, speaker: str = "auto") -> tuple[Playout, Any, Any]:
    """Return a ``Playout`` with its windows and speaker, and ``None`` for each that it does not have."""
    made = Playout(tasks, show=show, speaker=speaker, on_close=closed.append, on_notice=notices.append)
    return made, made._windows, made._speaker


def call(tasks: asyncio.TaskGroup, peer: str = "door") -> Call:
    return Call(peer, incoming=True, tasks=tasks, publish=lambda _: None, hang_up=lambda _: None)


async def test_open_starts_both_and_shows_the_preview() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, windows, speaker = make(tasks)
        preview: Fanout[Any] = Fanout()
        await made.open(preview)
        windows.ready.set()
    assert windows.calls == [("show", LOCAL, "me", preview), "start"]
    assert speaker.calls == ["open"]


async def test_open_without_video_source_shows_no_preview() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, windows, _ = make(tasks)
        windows.ready.set()
        await made.open(None)
    assert windows.calls == ["start"]


async def test_open_does_not_wait_for_the_windows() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, windows, speaker = make(tasks)
        async with asyncio.timeout(5):
            await made.open(None)
        assert speaker.calls == ["open"] and windows.calls == []
        windows.ready.set()


async def test_open_with_broken_named_speaker_raises() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, *_ = make(tasks, show=False, speaker="broken")
        with pytest.raises(MediaError, match="no such device"):
            await made.open(None)


async def test_added_call_is_shown_and_played_until_removed() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, windows, speaker = make(tasks)
        door = call(tasks)
        made.add(door)
        made.remove("door")
    assert windows.calls == [("show", "door", "door", door.media.video.frames), ("hide", "door")]
    assert speaker.calls == [("add", "door", door.media.audio.frames), ("remove", "door")]


async def test_changed_devices_make_a_lost_speaker_retry() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, _, speaker = make(tasks, show=False)
        made.devices_changed()
        Playout(tasks, show=False, speaker="none", on_close=closed.append, on_notice=notices.append).devices_changed()
    assert speaker.calls == ["retry"]


async def test_calls_are_shown_and_removed_independently() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, windows, _ = make(tasks)
        made.add(call(tasks, "door"))
        made.add(call(tasks, "yard"))
        made.remove("door")
    assert [(kind, key) for kind, key, *_ in windows.calls] == [("show", "door"), ("show", "yard"), ("hide", "door")]


async def test_playout_without_windows_and_speaker_does_nothing() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, windows, speaker = make(tasks, show=False, speaker="none")
        await made.open(Fanout())
        made.add(call(tasks))
        made.remove("door")
        await made.close()
    assert windows is None and speaker is None


async def test_close_closes_windows_and_speaker() -> None:
    async with asyncio.TaskGroup() as tasks:
        made, windows, speaker = make(tasks)
        await made.close()
    assert windows.calls == ["close"] and speaker.calls == ["close"]


async def test_closed_window_and_notice_reach_the_callbacks() -> None:
    closed.clear()
    notices.clear()
    async with asyncio.TaskGroup() as tasks:
        _, windows, _ = make(tasks)
        windows.on_close("door")
        windows.on_notice("no windows")
    assert closed == ["door"] and notices == ["no windows"]
