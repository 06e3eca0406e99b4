"""The audio that one call sends."""

from __future__ import annotations

import asyncio

import av
import pytest

from peer.media.fanout import Fanout
from peer.media.outgoing.audio_track import OutgoingAudio
from peer.media.outgoing.shared import SharedAudio


async def test_source_is_open_from_open_to_stop() -> None:
    calls: list[str] = []
    frames: Fanout[av.AudioFrame] = Fanout(lambda: calls.append("open"), lambda: calls.append("close"))
    async with asyncio.TaskGroup() as tasks:
        shared = SharedAudio(tasks, frames)
        one, other = OutgoingAudio(shared), OutgoingAudio(shared)
        for track in (one, one, other):
            track.open()
        one.stop()
        one.stop()
        assert calls == ["open"]
        other.stop()
    assert calls == ["open", "close"]


async def test_calls_with_one_codec_share_its_packets() -> None:
    async with asyncio.TaskGroup() as tasks:
        shared = SharedAudio(tasks, Fanout())
        one, other = OutgoingAudio(shared), OutgoingAudio(shared)
        one.start("opus")
        other.start("opus")
        async with asyncio.timeout(10):
            assert (await one.get()) is (await other.get())
        one.stop()
        other.stop()


async def test_get_without_start_ends() -> None:
    async with asyncio.TaskGroup() as tasks:
        track = OutgoingAudio(SharedAudio(tasks, Fanout()))
        with pytest.raises(StopAsyncIteration):
            await track.get()


async def test_feedback_has_no_effect() -> None:
    async with asyncio.TaskGroup() as tasks:
        track = OutgoingAudio(SharedAudio(tasks, Fanout()))
        track.request_key_frame()
        track.set_estimate(10_000)
        track.add_report(0.5, 1.0)
        assert track.allow_retransmission(7) and track.probe_bitrate() == 0
