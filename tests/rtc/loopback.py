"""Two real connections on loopback: plain aiortc sends, our receiver receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpSender

from peer.media.frames import VIDEO_TIME_BASE
from peer.media.incoming.track import FirstFrame, IncomingMedia
from peer.rtc import aiortc_hooks
from peer.rtc.ice_transport import IceTransport
from peer.rtc.receiver import Receiver
from tests.waiting import until


def ice_connection(connection: RTCPeerConnection) -> Any:
    """Return the one ``aioice.Connection`` under all transceivers (MAX_BUNDLE)."""
    return connection.getTransceivers()[0].receiver.transport.transport._connection


class FrameTrack(MediaStreamTrack):
    """A video track of the frames that are put into it. A slow sender misses the oldest ones."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._frames: asyncio.Queue[Any] = asyncio.Queue(2)

    def put(self, frame: av.VideoFrame) -> None:
        if self._frames.full():
            self._frames.get_nowait()
        self._frames.put_nowait(frame)

    async def recv(self) -> Any:
        return await self._frames.get()


class Loopback:
    """``near`` receives the video that ``far`` sends."""

    def __init__(self, near: RTCPeerConnection, far: RTCPeerConnection, media: IncomingMedia) -> None:
        self.near, self.far, self.media = near, far, media
        self.first_frames: list[FirstFrame] = []
        self.track = FrameTrack()
        self.receiver: Receiver
        self._number = 0

    @property
    def sender(self) -> RTCRtpSender:
        return self.far.getSenders()[0]

    def send_frame(self, width: int = 320, height: int = 240) -> None:
        """Send one video frame."""
        self._number += 1
        image = np.full((height, width, 3), self._number % 255, np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = self._number * 3000, VIDEO_TIME_BASE
        self.track.put(frame)

    async def send_until(self, condition: Callable[[], object]) -> None:
        """Send video frames until ``condition`` is true."""
        async with asyncio.timeout(20):
            while not condition():
                self.send_frame()
                await asyncio.sleep(0.02)

    async def receive_frames(self, count: int) -> None:
        """Send video frames until ``count`` more of them are received."""
        target = self.media.video.counters.frames + count
        await self.send_until(lambda: self.media.video.counters.frames >= target)


@asynccontextmanager
async def loopback(*codecs: str) -> AsyncIterator[Loopback]:
    """Connect both sides with ``codecs``, of which the first one is sent. The default is VP8."""
    near, far = aiortc_hooks.open_peer_connection(), aiortc_hooks.open_peer_connection()
    first_frames: list[FirstFrame] = []
    pair = Loopback(near, far, IncomingMedia(first_frames.append))
    pair.first_frames = first_frames
    transceiver = far.addTransceiver(pair.track, direction="sendonly")
    known = RTCRtpSender.getCapabilities("video").codecs
    wanted = (*(codecs or ("vp8",)), "rtx")
    transceiver.setCodecPreferences([c for name in wanted for c in known if c.name.lower() == name])
    IceTransport.of(transceiver.sender.transport)
    await far.setLocalDescription(await far.createOffer())
    await near.setRemoteDescription(far.localDescription)
    pair.receiver = Receiver(near.getTransceivers()[0].receiver, pair.media.video)
    await near.setLocalDescription(await near.createAnswer())
    await far.setRemoteDescription(near.localDescription)
    try:
        await until(lambda: near.connectionState == far.connectionState == "connected")
        yield pair
    finally:
        pair.track.stop()
        await asyncio.gather(aiortc_hooks.close(near), aiortc_hooks.close(far))
