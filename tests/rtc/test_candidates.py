"""ICE candidates: ours follow the description, the remote's are limited and added one by one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aioice.candidate import Candidate

from peer.rtc.candidates import LocalCandidates, RemoteCandidates
from peer.rtc.sdp import MAX_CANDIDATES
from peer.signaling.messages import IceCandidate

HOST = "1 1 udp 2130706431 192.0.2.{} 5000 typ host"


def test_local_candidates_wait_for_the_description() -> None:
    posted: list[IceCandidate] = []
    candidates = LocalCandidates(posted.append)
    candidates.username_fragment = "ufrag"
    candidates.add(Candidate.from_sdp(HOST.format(1)))
    assert posted == []
    candidates.description_posted()
    assert posted == [IceCandidate(f"candidate:{HOST.format(1)}", "0", 0, "ufrag")]
    candidates.add(Candidate.from_sdp(HOST.format(2)))
    candidates.description_posted()
    assert [one.candidate for one in posted] == [f"candidate:{HOST.format(n)}" for n in (1, 2)]


class Ice:
    """An ICE connection that adds candidates; one of 192.0.2.1 fails, and one of 192.0.2.2 waits for ``resolved``."""

    def __init__(self) -> None:
        self.added: list[str] = []
        self.resolved = asyncio.Event()

    async def add_remote_candidate(self, candidate: Candidate) -> None:
        if candidate.host == "192.0.2.1":
            raise OSError("no such name")
        if candidate.host == "192.0.2.2":
            await self.resolved.wait()
        self.added.append(candidate.host)
        self.resolved.set()


async def test_remote_candidates_are_added_once_up_to_the_limit() -> None:
    ice: Any = Ice()
    async with asyncio.TaskGroup() as group:
        candidates = RemoteCandidates(ice, group)
        for repetition in range(3):  # as every further offer does
            for n in range(3, MAX_CANDIDATES + 3 + repetition):
                candidates.add(IceCandidate(f"candidate:{HOST.format(n)}"))
    assert ice.added == [f"192.0.2.{n}" for n in range(3, MAX_CANDIDATES + 3)]


async def test_remote_candidate_that_fails_or_waits_delays_no_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ice = Ice()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        candidates = RemoteCandidates(ice, group)
        for n in (1, 2, 3):
            candidates.add(IceCandidate(f"candidate:{HOST.format(n)}"))
    assert ice.added == ["192.0.2.3", "192.0.2.2"]
    assert "dropped an unusable candidate: no such name" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        "",
        "candidate:1 1 udp",
        "candidate:1 1 tcp 1 192.0.2.3 9 typ host tcptype active",
        "candidate:1 2 udp 1 192.0.2.3 5000 typ host",
        "candidate:1 1 udp 1 192.0.2.3 0 typ host",
        "candidate:1 1 udp 1 192.0.2.3 65536 typ host",
    ],
)
async def test_malformed_or_unsupported_remote_candidate_is_dropped(line: str) -> None:
    ice: Any = Ice()
    async with asyncio.TaskGroup() as group:
        RemoteCandidates(ice, group).add(IceCandidate(line))
    assert ice.added == []
