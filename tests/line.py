"""Two real connections on loopback: the bare engine sends, and ours receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender

from peer.media.frames import VIDEO_TIME_BASE
from peer.media.incoming.track import FirstPicture, IncomingMedia
from peer.rtc import aiortc_hooks
from peer.rtc import receiver as reception
from tests.waiting import until


class Drawn(MediaStreamTrack):
    """A track of the pictures that are drawn; a sender that is slow gets the newest."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._frames: asyncio.Queue[Any] = asyncio.Queue(2)

    def show(self, frame: av.VideoFrame) -> None:
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    async def recv(self) -> Any:
        return await self._frames.get()


class Line:
    """``near`` receives what ``far`` sends."""

    def __init__(self, near: RTCPeerConnection, far: RTCPeerConnection, media: IncomingMedia) -> None:
        self.near, self.far, self.media = near, far, media
        self.firsts: list[FirstPicture] = []
        self.track = Drawn()
        self.receiving: reception.Receiving
        self._number = 0

    @property
    def sender(self) -> RTCRtpSender:
        return self.far.getSenders()[0]

    def draw(self, width: int = 320, height: int = 240) -> None:
        """Send one picture."""
        self._number += 1
        image = np.full((height, width, 3), self._number % 255, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self._number * 3000, VIDEO_TIME_BASE
        self.track.show(frame)

    async def until(self, condition: Callable[[], object]) -> None:
        """Keep sending pictures until something holds."""
        async with asyncio.timeout(20):
            while not condition():
                self.draw()
                await asyncio.sleep(0.02)

    async def pictures(self, count: int) -> None:
        """Keep sending until so many more have come."""
        target = self.media.video.counters.frames + count
        await self.until(lambda: self.media.video.counters.frames >= target)


@asynccontextmanager
async def line(*codecs: str) -> AsyncIterator[Line]:
    """``codecs`` are negotiated, VP8 if none is named; the first one is sent."""
    near, far = aiortc_hooks.open_peer_connection(), aiortc_hooks.open_peer_connection()
    firsts: list[FirstPicture] = []
    made = Line(near, far, IncomingMedia(firsts.append))
    made.firsts = firsts
    transceiver = far.addTransceiver(made.track, direction="sendonly")
    known = RTCRtpSender.getCapabilities("video").codecs
    wanted = (*(codecs or ("vp8",)), "rtx")
    transceiver.setCodecPreferences([c for name in wanted for c in known if c.name.lower() == name])
    await far.setLocalDescription(await far.createOffer())
    await near.setRemoteDescription(far.localDescription)
    receiver = near.getTransceivers()[0].receiver
    made.receiving = reception.Receiving(receiver, made.media.video)
    await near.setLocalDescription(await near.createAnswer())
    await far.setRemoteDescription(near.localDescription)
    try:
        await until(lambda: near.connectionState == far.connectionState == "connected")
        yield made
    finally:
        made.track.stop()
        await asyncio.gather(aiortc_hooks.close(near), aiortc_hooks.close(far))
