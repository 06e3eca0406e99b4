"""Further offers of Chromium in a connected call: ICE restart, hold, a track added or removed. Media goes on."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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

OPEN = """() => {
  const pc = window.pc = new RTCPeerConnection();
  window.shown = [];
  window.track = () => {
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d');
    setInterval(() => {
      context.fillStyle = `hsl(${Date.now() / 10 % 360} 80% 50%)`;
      context.fillRect(0, 0, 320, 180);
    }, 40);
    return canvas.captureStream(25).getVideoTracks()[0];
  };
  pc.ontrack = ({track}) => {
    if (track.kind !== 'video') return;
    const video = document.createElement('video');
    video.srcObject = new MediaStream([track]);
    video.muted = true;
    video.play();
    const seen = (now) => { shown.push(now); video.requestVideoFrameCallback(seen); };
    video.requestVideoFrameCallback(seen);
  };
  window.video = pc.addTransceiver(track());
}"""
OFFER = """async () => {
  await pc.setLocalDescription();
  while (pc.iceGatheringState !== 'complete') await new Promise((done) => setTimeout(done, 5));
  return pc.localDescription.sdp;
}"""
ANSWER = "(sdp) => pc.setRemoteDescription({type: 'answer', sdp})"
CANDIDATE = """({candidate, sdp_mid, sdp_m_line_index, username_fragment}) => pc.addIceCandidate({
  candidate, sdpMid: sdp_mid, sdpMLineIndex: sdp_m_line_index, usernameFragment: username_fragment})"""
GAP = "() => Math.max(...shown.slice(1).map((time, index) => time - shown[index]))"
PAIR = """async () => {
  const stats = await pc.getStats();
  const transport = [...stats.values()].find(({type}) => type === 'transport');
  return [transport.selectedCandidatePairChanges, transport.dtlsState, stats.get(transport.localCertificateId).id];
}"""


class Session:
    """A call of Chromium with our ``connection``, video both ways."""

    def __init__(self, tab: Any, tasks: asyncio.TaskGroup) -> None:
        self.tab = tab
        self.frames: Fanout[av.VideoFrame] = Fanout()
        self.incoming = IncomingMedia(lambda _: None)
        self.events: asyncio.Queue[n.Event] = asyncio.Queue()
        tracks = OutgoingTracks(OutgoingVideo(SharedVideo(tasks, self.frames, size=(320, 180))))
        tracks.open()
        self.connection = Connection(1, tracks, self.incoming, ConnectionOptions(), self.events.put_nowait)
        tasks.create_task(self.connection.run())

    async def negotiate(self, *, restart: bool | None = False) -> str:
        """Exchange an offer and the answer. ``restart`` is ``None`` for the first one. Return the answer."""
        offer = await self.tab.evaluate(OFFER)
        if restart is None:
            self.connection.create_answer(offer)
        else:
            self.connection.renegotiate(offer, ice_restart=restart)
        while True:
            match await self.event():
                case n.AnswerCreated(_, sdp):
                    await self.tab.evaluate(ANSWER, sdp)
                    return sdp
                case n.LocalCandidate(_, IceCandidate() as candidate):
                    await self.tab.evaluate(CANDIDATE, asdict(candidate))
                case other:
                    raise AssertionError(other)

    async def event(self) -> n.Event:
        async with asyncio.timeout(20):
            return await self.events.get()

    async def flowing(self) -> None:
        """Wait until both sides receive ten more video frames."""
        ours, theirs = self.incoming.video.counters.frames, await self.tab.evaluate("shown.length")
        await until(lambda: self.incoming.video.counters.frames >= ours + 10, 20)
        await self.tab.wait_for_function(f"shown.length >= {theirs} + 10", timeout=20_000)


@asynccontextmanager
async def connected(browser: Browser) -> AsyncIterator[Session]:
    """Connect a session, until video flows."""
    tab = await browser.chromium.new_page()
    async with asyncio.TaskGroup() as tasks:
        session = Session(tab, tasks)
        drawing = tasks.create_task(_draw(session.frames))
        try:
            await tab.evaluate(OPEN)
            await session.negotiate(restart=None)
            while not isinstance(event := await session.event(), n.TransportConnected):
                assert isinstance(event, n.LocalCandidate), event
            await session.flowing()
            yield session
        finally:
            drawing.cancel()
            session.connection.close()
            await tab.close()


async def _draw(frames: Fanout[av.VideoFrame]) -> None:
    pattern = Pattern(320, 180, 25)
    for number in itertools.count():
        frame = pattern.draw(number)
        frame.pts, frame.time_base = round(media_time() / VIDEO_TIME_BASE), VIDEO_TIME_BASE
        frames.put(frame)
        await asyncio.sleep(0.04)


async def test_ice_restart_of_chromium_makes_no_gap(browser: Browser) -> None:
    async with connected(browser) as session:
        before = await session.tab.evaluate(PAIR)
        reader = session.incoming.encoded.read(1000)
        await session.flowing()
        await session.tab.evaluate("shown.splice(0); pc.restartIce()")
        await session.negotiate(restart=True)
        ice = session.connection._ice
        assert ice is not None
        await until(lambda: ice.connection is ice.newest)
        await session.tab.wait_for_function("pc.iceConnectionState === 'connected'")
        await session.flowing()
        changes, *dtls = await session.tab.evaluate(PAIR)
        assert changes > before[0] and dtls == before[1:]
        arrivals = []
        while (frame := reader.get_nowait()) is not None:
            arrivals.append(frame.arrival)
        gaps = (await session.tab.evaluate(GAP) / 1000, max(b - a for a, b in itertools.pairwise(arrivals)))
        assert max(gaps) < 1, gaps
        assert await session.tab.evaluate("pc.connectionState") == "connected"


async def test_hold_by_chromium_stops_the_camera_until_resumed(browser: Browser) -> None:
    async with connected(browser) as session:
        await session.tab.evaluate("video.direction = 'inactive'")
        await session.negotiate()
        await until(lambda: session.frames.readers == 0)
        assert session.connection.receives == set()
        await session.tab.evaluate("video.direction = 'sendrecv'")
        await session.negotiate()
        assert session.connection.receives == {"video"}
        await session.flowing()


async def test_audio_added_and_removed_by_chromium_leaves_video(browser: Browser) -> None:
    async with connected(browser) as session:
        for _ in range(2):
            await session.tab.evaluate("window.audio = pc.addTransceiver('audio'); 0")
            await session.negotiate()
            assert session.connection.receives == {"video", "audio"}
            await session.flowing()
            await session.tab.evaluate("audio.stop()")
            answer = await session.negotiate()
            assert "m=audio 0" in answer
            assert session.connection.receives == {"video"}
            await session.flowing()
        assert session.connection._pc is not None
        assert len(session.connection._pc.getTransceivers()) == 2


async def test_second_video_of_chromium_takes_over_from_the_first(browser: Browser) -> None:
    """The first one is not stopped: libwebrtc closes the transport with the first section of its BUNDLE group."""
    async with connected(browser) as session:
        await session.tab.evaluate("window.second = pc.addTransceiver(track()); 0")
        await session.negotiate()
        await session.flowing()
        await session.tab.evaluate("video.direction = 'inactive'")
        await session.negotiate()
        for restart in (False, True):
            frames = session.incoming.video.counters.frames
            await until(lambda frames=frames: session.incoming.video.counters.frames > frames + 10)
            if restart:
                await session.tab.evaluate("pc.restartIce()")
            await session.negotiate(restart=restart)
        ice = session.connection._ice
        assert ice is not None
        await until(lambda: ice.connection is ice.newest)
        frames = session.incoming.video.counters.frames
        await until(lambda: session.incoming.video.counters.frames > frames + 10)
        assert session.connection.receives == {"video"}
