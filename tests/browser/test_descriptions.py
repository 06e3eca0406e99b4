"""Offers of Chromium that are unusual: it has to accept our answer and connect, and both sides see video."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import asdict
from typing import Any

import av
import pytest

from peer import negotiation as n
from peer.media.fanout import Fanout
from peer.media.frames import VIDEO_TIME_BASE, media_time
from peer.media.incoming.track import IncomingMedia
from peer.media.outgoing.shared import SharedVideo
from peer.media.outgoing.track import OutgoingVideo
from peer.media.test_pattern import Pattern
from peer.rtc.connection import Connection, ConnectionOptions
from peer.rtc.outgoing_tracks import OutgoingTracks
from peer.signaling.messages import IceCandidate
from tests.browser.rig import Browser
from tests.waiting import until

pytestmark = pytest.mark.browser

OFFER = """async ([config, order]) => {
  const pc = window.pc = new RTCPeerConnection(config);
  const gathered = new Promise((done) => pc.onicecandidate = (event) => event.candidate || done());
  const codecs = RTCRtpSender.getCapabilities('video').codecs.filter((codec) => codec.mimeType === 'video/VP9');
  for (const what of order) {
    if (what === 'data') {
      pc.createDataChannel('data');
      await pc.setLocalDescription();
    } else if (what === 'vp9') {
      pc.addTransceiver('video').setCodecPreferences(codecs);
    } else {
      pc.addTransceiver(what);
    }
  }
  await pc.setLocalDescription();
  await gathered;
  return pc.localDescription.sdp;
}"""
ANSWER = "(sdp) => pc.setRemoteDescription({type: 'answer', sdp})"
CANDIDATE = """({candidate, sdp_mid, sdp_m_line_index}) =>
  pc.addIceCandidate({candidate, sdpMid: sdp_mid, sdpMLineIndex: sdp_m_line_index})"""


@pytest.mark.parametrize("policy", ["balanced", "max-compat", "max-bundle"])
@pytest.mark.parametrize(
    "order",
    [("audio", "video", "data"), ("data", "audio", "video"), ("vp9", "audio"), ("audio", "vp9")],
    ids="-".join,
)
async def test_offer_that_is_accepted_in_part_connects(browser: Browser, policy: str, order: tuple[str, ...]) -> None:
    posted: asyncio.Queue[n.Event] = asyncio.Queue()
    context = await browser.chromium.new_context()
    tab = await context.new_page()
    connection = Connection(
        1, OutgoingTracks(), IncomingMedia(lambda _: None), ConnectionOptions(), posted.put_nowait
    )
    running = asyncio.create_task(connection.run())
    try:
        connection.create_answer(await tab.evaluate(OFFER, [{"bundlePolicy": policy}, list(order)]))
        async with asyncio.timeout(20):
            while not isinstance(event := await posted.get(), n.TransportConnected):
                await _pass_on(tab, event)
            await tab.wait_for_function("pc.connectionState === 'connected'")
    finally:
        connection.close()
        await running
        await context.close()


H264 = """async (mode) => {
  const pc = window.pc = new RTCPeerConnection();
  const gathered = new Promise((done) => pc.onicecandidate = (event) => event.candidate || done());
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d');
  setInterval(() => {
    context.fillStyle = `hsl(${Date.now() / 10 % 360} 80% 50%)`;
    context.fillRect(0, 0, 320, 180);
  }, 40);
  pc.ontrack = ({track}) => {
    const video = document.createElement('video');
    video.srcObject = new MediaStream([track]);
    video.muted = true;
    video.play();
  };
  const video = pc.addTransceiver(canvas.captureStream(25).getVideoTracks()[0]);
  const known = RTCRtpReceiver.getCapabilities('video').codecs;
  video.setCodecPreferences(known.filter(({mimeType, sdpFmtpLine}) =>
    mimeType === 'video/H264' && sdpFmtpLine.includes(`packetization-mode=${mode}`)));
  await pc.setLocalDescription();
  await gathered;
  return pc.localDescription.sdp;
}"""
RECEIVED = """async () => {
  for (;;) {
    const stats = await pc.getStats();
    const video = [...stats.values()].find(({type, kind}) => type === 'inbound-rtp' && kind === 'video');
    if (video && video.framesDecoded > 20) return stats.get(video.codecId).sdpFmtpLine;
    await new Promise((done) => setTimeout(done, 50));
  }
}"""


@pytest.mark.parametrize("mode", [0, 1])
async def test_h264_in_one_packetization_mode_works_both_ways(browser: Browser, mode: int) -> None:
    posted: asyncio.Queue[n.Event] = asyncio.Queue()
    frames: Fanout[av.VideoFrame] = Fanout()
    incoming = IncomingMedia(lambda _: None)
    tab = await browser.chromium.new_page()
    async with asyncio.TaskGroup() as tasks:
        tracks = OutgoingTracks(OutgoingVideo(SharedVideo(tasks, frames, size=(320, 180))))
        connection = Connection(1, tracks, incoming, ConnectionOptions(), posted.put_nowait)
        tasks.create_task(connection.run())
        drawing = tasks.create_task(_draw(frames))
        try:
            connection.create_answer(await tab.evaluate(H264, mode))
            async with asyncio.timeout(20):
                while not isinstance(event := await posted.get(), n.TransportConnected):
                    await _pass_on(tab, event)
                assert f"packetization-mode={mode}" in await tab.evaluate(RECEIVED)
                await until(lambda: incoming.video.counters.frames > 20)
        finally:
            drawing.cancel()
            connection.close()
            await tab.close()


async def _draw(frames: Fanout[av.VideoFrame]) -> None:
    pattern = Pattern(320, 180, 25)
    for number in itertools.count():
        frame = pattern.draw(number)
        frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        frames.put(frame)
        await asyncio.sleep(0.04)


async def _pass_on(tab: Any, event: n.Event) -> None:
    match event:
        case n.AnswerCreated(_, sdp):
            await tab.evaluate(ANSWER, sdp)
        case n.LocalCandidate(_, IceCandidate() as candidate):
            await tab.evaluate(CANDIDATE, asdict(candidate))
        case _:
            raise AssertionError(event)
