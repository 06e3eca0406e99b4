"""Offers of Chromium that we accept in part: it has to accept our answer, and connect."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import pytest

from peer import negotiation as n
from peer.media.incoming.track import IncomingMedia
from peer.rtc.connection import Connection, ConnectionOptions, OutgoingTracks
from peer.signaling.messages import IceCandidate
from tests.browser.rig import Browser

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


async def _pass_on(tab: Any, event: n.Event) -> None:
    match event:
        case n.AnswerCreated(_, sdp):
            await tab.evaluate(ANSWER, sdp)
        case n.LocalCandidate(_, IceCandidate() as candidate):
            await tab.evaluate(CANDIDATE, asdict(candidate))
        case _:
            raise AssertionError(event)
