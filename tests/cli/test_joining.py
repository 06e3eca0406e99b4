"""One call attended to, with a disk that does not do what it should."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from peer import events
from peer.call import Call
from peer.cli import joining
from peer.cli.output import Output
from peer.errors import CallFailed, MediaError
from peer.node.sinks import Files


class _Call:
    """A call that lasts until it is hung up; its recordings never close, or fail at once."""

    peer = "door"

    def __init__(self, reason: events.Reason = "hang-up", *, disk: str = "stuck") -> None:
        self.over, self.recording = asyncio.Event(), asyncio.Event()
        self.reason, self.disk = reason, disk

    async def ended(self) -> events.Reason:
        await self.over.wait()
        return self.reason

    async def hang_up(self, _reason: str = "hang-up") -> None:
        self.over.set()

    async def record(self, path: str) -> None:
        self.recording.set()
        if self.disk == "full":
            raise MediaError(path, "no space left")
        await asyncio.Event().wait()

    async def connected(self) -> None:
        raise CallFailed(self.peer, "transport-failed")


class _Said(Output):
    """An output that tells when something was said."""

    def __init__(self) -> None:
        super().__init__(as_json=True)
        self.said = asyncio.Event()

    def event(self, event: events.Event) -> None:
        super().event(event)
        self.said.set()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENAMETOOLONG, errno.EACCES])
async def test_a_disk_that_refuses_a_name_ends_no_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_path: Path) -> bool:
        raise OSError(number, os.strerror(number))

    call, out = _Call(), _Said()
    files, failed = Files(str(tmp_path / "{peer}.mkv"), None, several=True), list[int]()
    monkeypatch.setattr(Path, "exists", refuse)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        attended = group.create_task(joining.attend(cast(Call, call), files, out, None, failed), name="call")
        await out.said.wait()
        assert not attended.done()
        await call.hang_up()
    assert attended.result() == "hang-up"
    assert failed == [5]


async def test_an_interrupted_call_does_not_wait_for_a_stuck_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_CLOSING", 0.05)
    call, files = _Call(), Files(str(tmp_path / "{peer}.mkv"), None, several=True)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        attended = group.create_task(joining.attend(cast(Call, call), files, Output(as_json=True)), name="call")
        await call.recording.wait()
        attended.cancel()
    assert attended.cancelled()
    assert call.over.is_set()


async def test_a_recording_that_failed_is_not_forgotten_when_the_next_call_fails(tmp_path: Path) -> None:
    """5 for the recording and 6 for the lost call are 1 together."""
    agent = SimpleNamespace(calls={"door": _Call()})

    call, files, out = (
        _Call("replaced", disk="full"),
        Files(str(tmp_path / "{peer}.mkv"), None, several=True),
        _Said(),
    )
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        followed = group.create_task(joining.follow(agent, cast(Call, call), files, out), name="call")  # type: ignore[arg-type]
        await out.said.wait()
        await call.hang_up()
    assert followed.result() == 1
