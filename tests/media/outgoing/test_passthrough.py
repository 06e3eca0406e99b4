"""Passthrough of a source's H.264: refusals and their log."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace

import pytest

from peer.media.frames import media_time
from peer.rtp.packetizer import fits

from .studio import Camera, h264_stream

SMALL_SLICES = ":slice-max-size=1000"


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
            passthrough.log_decision("64001f", 1, None)
            passthrough.log_decision("42e01f", 1, f"its key frames are {n / 10:.1f} s apart")
            passthrough.log_decision("42e01f", 0, "NAL units are larger than a packet")
        assert len(caplog.records) == 3
        passthrough.log_decision("42e01f", 1, "it has B-frames")
        assert caplog.messages[-1] == "the source's H.264 is transcoded: it has B-frames"


async def test_source_with_small_nal_units_is_sent_in_both_modes() -> None:
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks, params=SMALL_SLICES)
        camera.passthrough.hold()
        reader = camera.passthrough.read()
        await camera.deliver(20)
        assert camera.passthrough.refusal("42e01f", 0) is None and camera.passthrough.refusal("42e01f", 1) is None
        for _ in range(20):
            frame = await reader.get()
            assert frame.packetization_mode == 0 and fits(frame.payloads)
        reader.close()
        camera.passthrough.release()


async def test_source_with_large_nal_units_is_refused_in_mode_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a key frame that comes half a minute after the last large unit."""
    now = [1000.0]
    monkeypatch.setattr("peer.media.outgoing.passthrough.media_time", lambda: now[0])
    async with asyncio.TaskGroup() as tasks:
        camera = Camera(tasks)
        camera.passthrough.hold()
        reader = camera.passthrough.read()
        await camera.deliver()
        why = camera.passthrough.refusal("42e01f", 0)
        assert why is not None and "packetization-mode 0" in why
        assert camera.passthrough.refusal("42e01f", 1) is None
        assert (await reader.get()).packetization_mode == 1
        camera.upcoming, refused = h264_stream(200, SMALL_SLICES)[1:], []
        for _ in range(39):
            now[0] += 1
            await camera.deliver()
            refused.append(camera.passthrough.refusal("42e01f", 0) is not None)
        assert [(value, len(list(steps))) for value, steps in itertools.groupby(refused)] == [(True, 29), (False, 10)]
        reader.close()
        camera.passthrough.release()


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
