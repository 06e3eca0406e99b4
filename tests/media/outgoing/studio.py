"""Sources with viewers, for tests of outgoing media."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import av

from peer.media.fanout import Fanout
from peer.media.frames import VIDEO_TIME_BASE, EncodedFrame, OutgoingFrame, media_time
from peer.media.outgoing.passthrough import Passthrough
from peer.media.outgoing.shared import SharedVideo
from peer.media.outgoing.track import OutgoingVideo
from peer.media.sources.passthrough import PassthroughCheck
from peer.media.test_pattern import Pattern

SIZE = (640, 360)


class Studio:
    """A source, its shared video and the viewers of it."""

    def __init__(self, tasks: asyncio.TaskGroup, passthrough: Passthrough | None = None) -> None:
        self.calls: list[str] = []
        self.frames: Fanout[av.VideoFrame] = Fanout(
            lambda: self.calls.append("open"), lambda: self.calls.append("close")
        )
        self.shared = SharedVideo(tasks, self.frames, size=SIZE, passthrough=passthrough)
        self._canvas = Pattern(*SIZE, 30)
        self._numbers = itertools.count()
        self._viewers: list[OutgoingVideo] = []

    def draw(self) -> None:
        frame = self._canvas.draw(next(self._numbers))
        frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        self.frames.put(frame)

    def viewer(self, codec: str = "vp8", profile: str | None = None, packetization_mode: int = 1) -> OutgoingVideo:
        made = OutgoingVideo(self.shared)
        made.open()
        made.start(codec, profile, packetization_mode)
        self._viewers.append(made)
        return made

    async def show(self, *viewers: OutgoingVideo) -> list[OutgoingFrame]:
        """Draw until each of ``viewers`` has received another frame. Return these frames."""
        waiting = [asyncio.ensure_future(viewer.get()) for viewer in viewers]
        async with asyncio.timeout(20):
            while not all(each.done() for each in waiting):
                self.draw()
                await asyncio.wait(waiting, timeout=0.02)
        return [await each for each in waiting]

    def close(self) -> None:
        for viewer in self._viewers:
            viewer.stop()


@asynccontextmanager
async def studio() -> AsyncIterator[Studio]:
    async with asyncio.TaskGroup() as tasks:
        made = Studio(tasks)
        try:
            yield made
        finally:
            made.close()


def h264_stream(count: int, params: str = "") -> list[EncodedFrame]:
    """Return frames of a Constrained Baseline stream; each tenth is a key frame. ``params`` are more of x264's."""
    context = av.CodecContext.create("libx264", "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height, context.pix_fmt = *SIZE, "yuv420p"
    context.time_base, context.profile = VIDEO_TIME_BASE, "Baseline"
    context.options = {
        "tune": "zerolatency",
        "preset": "ultrafast",
        "g": "10",
        "x264-params": f"keyint=10:scenecut=0{params}",
    }
    pattern, encoded = Pattern(*SIZE, 30), []
    for n in range(count):
        frame = pattern.draw(n)
        frame.pts = n * 3000
        [packet] = context.encode(frame)
        encoded.append(
            EncodedFrame(
                kind="video",
                codec="h264",
                data=bytes(packet),
                timestamp=n * 3000,
                clock_rate=90_000,
                key=packet.is_keyframe,
                arrival=0.0,
                ntp=None,
            )
        )
    return encoded


class Camera:
    """A source that delivers H.264."""

    def __init__(self, tasks: asyncio.TaskGroup, max_bitrate: int | None = None, params: str = "") -> None:
        self.encoded: Fanout[EncodedFrame] = Fanout()
        self.check = PassthroughCheck()
        self.passthrough = Passthrough(tasks, self.encoded, self.check, max_bitrate)
        self.upcoming = h264_stream(200, params)

    async def deliver(self, count: int = 1) -> None:
        for _ in range(count):
            now = round(media_time() / VIDEO_TIME_BASE)
            frame = replace(self.upcoming.pop(0), timestamp=now)
            self.check.observe(frame)
            self.encoded.put(frame)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
