"""A connected call with a disk that fails or hangs."""

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
from peer.node.sinks import SinkPaths


class _Call:
    """A call that lasts until it is hung up, with a disk that hangs (``stuck``) or fails at once (``full``)."""

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


class _Output(Output):
    """An output that sets ``written`` when an event is written."""

    def __init__(self) -> None:
        super().__init__(as_json=True)
        self.written = asyncio.Event()

    def event(self, event: events.Event) -> None:
        super().event(event)
        self.written.set()


@pytest.mark.parametrize("number", [errno.EIO, errno.ENAMETOOLONG, errno.EACCES])
async def test_call_continues_when_the_disk_rejects_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_path: Path) -> bool:
        raise OSError(number, os.strerror(number))

    call, out = _Call(), _Output()
    paths, failed = SinkPaths(str(tmp_path / "{peer}.mkv"), None, several=True), list[int]()
    monkeypatch.setattr(Path, "exists", refuse)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(joining.run_call(cast(Call, call), paths, out, None, failed), name="call")
        await out.written.wait()
        assert not running.done()
        await call.hang_up()
    assert running.result() == "hang-up"
    assert failed == [5]


async def test_interrupted_call_does_not_wait_for_a_stuck_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_CLOSE_TIMEOUT", 0.05)
    call, paths = _Call(), SinkPaths(str(tmp_path / "{peer}.mkv"), None, several=True)
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        running = group.create_task(joining.run_call(cast(Call, call), paths, Output(as_json=True)), name="call")
        await call.recording.wait()
        running.cancel()
    assert running.cancelled()
    assert call.over.is_set()


async def test_failed_recording_counts_after_the_call_is_replaced(tmp_path: Path) -> None:
    """5 for the recording and 6 for the lost call combine to 1."""
    agent = SimpleNamespace(calls={"door": _Call()})

    call, paths, out = (
        _Call("replaced", disk="full"),
        SinkPaths(str(tmp_path / "{peer}.mkv"), None, several=True),
        _Output(),
    )
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        followed = group.create_task(joining.follow(agent, cast(Call, call), paths, out), name="call")  # type: ignore[arg-type]
        await out.written.wait()
        await call.hang_up()
    assert followed.result() == 1


class _Events:
    """The events of an agent whose peer calls again when the second one is read."""

    def __init__(self, agent: SimpleNamespace) -> None:
        self._agent, self._read = agent, 0

    def __enter__(self) -> _Events:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    async def __anext__(self) -> events.Event:
        self._read += 1
        if self._read == 2:
            self._agent.calls["door"] = _Call("transport-failed")
        return events.PeerJoined(peer="door")


@pytest.mark.parametrize("present", [True, False])
async def test_call_of_a_restarted_peer_is_followed_by_its_next(present: bool) -> None:
    agent = SimpleNamespace(calls={}, peers={"door": "Available"} if present else {})
    agent.events = lambda: _Events(agent)
    call = _Call("peer-left")
    call.over.set()
    paths = SinkPaths(None, None, several=True)
    async with asyncio.timeout(20):
        result = await joining.follow(agent, cast(Call, call), paths, Output(as_json=True))  # type: ignore[arg-type]
    assert result == 6
    assert ("door" in agent.calls) is present, "a peer that has left is not waited for"
