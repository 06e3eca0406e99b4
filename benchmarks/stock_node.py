"""A camera node, as anyone would write it with aiortc in an hour; benchmarks/viewers.py compares ours with it.

It joins the relay, answers every offer, and sends one shared track to all callers, each through its own
``RTCRtpSender`` as in aiortc. The frames come from our source, so that they are the same and cost the same.

With ``--viewers 0`` it reads the source and discards the frames, to measure the cost of the source alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any

import av
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, codecs
from aiortc.codecs import h264, vpx
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from websockets.asyncio.client import connect

from peer.media.fanout import Fanout
from peer.media.sources.local_media import open_sources
from peer.media.sources.spec import parse_audio, parse_bitrate, parse_size, parse_video


class Shared(MediaStreamTrack):
    """A track as of aiortc's MediaRelay with ``buffered=False``: the newest frame, the same for every reader."""

    kind = "video"

    def __init__(self, frames: Fanout[av.VideoFrame]) -> None:
        super().__init__()
        self._reader = frames.read(1)

    async def recv(self) -> av.VideoFrame:
        try:
            return await self._reader.get()
        except StopAsyncIteration:
            raise MediaStreamError from None


async def answer(offer: dict[str, Any], frames: Fanout[av.VideoFrame]) -> tuple[RTCPeerConnection, dict[str, Any]]:
    """Return a connection for the caller, and the answer message."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTrack(Shared(frames))
    await connection.setRemoteDescription(RTCSessionDescription(offer["sdp"], "offer"))
    await connection.setLocalDescription(await connection.createAnswer())
    sdp = connection.localDescription.sdp
    return connection, {"type": "answer", "from": offer["to"], "to": offer["from"], "sdp": sdp}


async def serve(options: argparse.Namespace) -> None:
    media = await open_sources(
        parse_video(options.video), parse_audio("none"), size=parse_size(options.size), fps=options.fps
    )
    assert media.video is not None
    connections = []
    async with connect(options.server) as relay:
        await relay.send(json.dumps({"type": "join", "peerId": options.id}))
        await relay.recv()
        print(json.dumps({"event": "joined"}), flush=True)
        if options.viewers == 0:
            async for _ in media.video.read(1):
                pass
        async for text in relay:
            message = json.loads(text)
            if message["type"] == "offer":
                connection, described = await answer(message, media.video)
                connections.append(connection)
                await relay.send(json.dumps(described))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--id", required=True)
    parser.add_argument("--video", default="test")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--fps", type=float, default=30.0)
    parser.add_argument("--max-bitrate", help="for both codecs; default: aiortc's, 1.5M for VP8 and 3M for H.264")
    parser.add_argument("--viewers", type=int)
    parser.add_argument("--json", action="store_true", help="ignored: the output is always JSON")
    options = parser.parse_args()
    if options.max_bitrate:
        vpx.MAX_BITRATE = h264.MAX_BITRATE = parse_bitrate(options.max_bitrate)
    assert codecs.get_capabilities("video")
    asyncio.run(serve(options))


if __name__ == "__main__":
    main()
