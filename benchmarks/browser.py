"""One viewer in headless Chromium, for ``congested_viewer.py``: the same counters as audience.py, from ``getStats``.

It uses a minimal page of its own: a join, an offer to receive video, and no interface.
"""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import playwright.async_api as pw

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--autoplay-policy=no-user-gesture-required", "--allow-loopback-in-peer-connection"),
    "--disable-features=WebRtcHideLocalIpsWithMdns",
)

SCRIPT = """async ([server, id, codec]) => {
  const relay = new WebSocket(server), rtc = globalThis.rtc = new RTCPeerConnection();
  const send = (type, more) => relay.send(JSON.stringify({ type, from: id, to: "node", ...more }));
  const video = document.body.appendChild(Object.assign(document.createElement("video"), { muted: true }));
  globalThis.seen = { last: 0, gap: 0 };
  const look = (now) => {
    if (seen.last) seen.gap = Math.max(seen.gap, now - seen.last);
    seen.last = now;
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  rtc.ontrack = ({ track }) => { video.srcObject = new MediaStream([track]); video.play(); };
  const { codecs } = RTCRtpReceiver.getCapabilities("video");
  const wanted = codecs.filter(({ mimeType }) => [`video/${codec}`, "video/rtx"].includes(mimeType.toLowerCase()));
  rtc.addTransceiver("video", { direction: "recvonly" }).setCodecPreferences(wanted);
  rtc.onicecandidate = ({ candidate }) => candidate && send("candidate", { candidate });
  relay.onmessage = async ({ data }) => {
    const message = JSON.parse(data);
    if (message.type === "peer-list") {
      await rtc.setLocalDescription();
      send("offer", { sdp: rtc.localDescription.sdp });
    } else if (message.type === "answer") {
      await rtc.setRemoteDescription({ type: "answer", sdp: message.sdp });
    }
  };
  relay.onopen = () => relay.send(JSON.stringify({ type: "join", peerId: id }));
}"""

REPORT = """async () => {
  const reports = [...(await rtc.getStats()).values()];
  const video = reports.find(({ type, kind }) => type === "inbound-rtp" && kind === "video") ?? {};
  const silent = seen.last ? performance.now() - seen.last : 0;
  const gap = Math.max(seen.gap, silent) / 1000;
  seen.gap = 0;
  return { frames: video.framesReceived ?? 0, size: video.bytesReceived ?? 0, keys: video.keyFramesDecoded ?? 0,
           seen: video.framesDecoded ?? 0, width: video.frameWidth ?? 0, gap };
}"""


class BrowserViewer:
    """A browser tab that receives the node's video."""

    def __init__(self, tab: pw.Page) -> None:
        self._tab = tab

    async def report(self) -> dict[str, Any]:
        """Return the totals; ``gap`` is the longest time between two presented frames since the last report."""
        found: dict[str, Any] = await self._tab.evaluate(REPORT)
        return found


@asynccontextmanager
async def browser_viewer(server: str, id: str, codec: str) -> AsyncIterator[BrowserViewer]:
    """A viewer that has joined at ``server`` and presented its first frame."""
    async with pw.async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        try:
            tab = await chromium.new_page()
            await tab.evaluate(SCRIPT, [server, id, codec])
            await tab.wait_for_function("() => globalThis.seen.last > 0", timeout=20_000)
            yield BrowserViewer(tab)
        finally:
            await chromium.close()
