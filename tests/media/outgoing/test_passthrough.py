"""Passthrough of a source's H.264: refusals and their log."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from peer.media.frames import media_time

from .studio import Camera, h264_stream


async def test_excess_bitrate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks, max_bitrate=10_000)
        camera.passthrough.hold()
        clock = itertools.count(1000, 1)
        monkeypatch.setattr("peer.media.outgoing.passthrough.media_time", lambda: next(clock) * 0.5)
        await camera.deliver(20)
        why = camera.passthrough.refusal("42e01f")
        assert why is not None and "kbit/s" in why
        camera.passthrough.release()


async def test_varying_bitrate_is_refused_without_alternating(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("peer.media.outgoing.passthrough.media_time", lambda: now[0])
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks, max_bitrate=1_000_000)
        camera.passthrough.hold()
        [frame] = h264_stream(1)
        accepted = []
        for step in range(100):
            now[0] += 0.5
            size = 80_000 if step < 50 and step // 10 % 2 else 50_000
            padded = replace(
                frame, data=frame.data + bytes([1]) * size, arrival=now[0], timestamp=round(now[0] * 90_000)
            )
            camera.check.observe(padded)
            camera.encoded.put(padded)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            accepted.append(camera.passthrough.refusal("42e01f") is None)
        assert [fits for fits, _ in itertools.groupby(accepted)] == [True, False]
        now[0] += 30
        camera.passthrough._last_frame_at = now[0]
        assert camera.passthrough.refusal("42e01f") is None
        camera.passthrough.release()


async def test_decision_is_logged_once_per_profile_and_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with asyncio.TaskGroup() as tasks:
        passthrough = Camera(tasks).passthrough
        for n in range(100):
            passthrough.log_decision("64001f", None)
            passthrough.log_decision("42e01f", f"its key frames are {n / 10:.1f} s apart")
        assert len(caplog.records) == 2
        passthrough.log_decision("42e01f", "it has B-frames")
        assert caplog.messages[-1] == "the source's H.264 is transcoded: it has B-frames"


async def test_silent_source_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        camera.passthrough.hold()
        await camera.deliver(3)
        assert camera.passthrough.refusal("42e01f") is None
        later = media_time() + 2
        monkeypatch.setattr("peer.media.outgoing.passthrough.media_time", lambda: later)
        assert camera.passthrough.refusal("42e01f") == "it is silent"
        camera.passthrough.release()
