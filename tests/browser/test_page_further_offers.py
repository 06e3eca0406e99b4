"""Further offers to the page: a renegotiation and an ICE restart keep its connection, and calls are told apart."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from peer.negotiation.description_identity import SecondOffer, classify, read_identity
from tests.browser.rig import Browser, Page, until
from tests.browser.site import Site
from tests.browser.test_page_wire import FakeRelay, joined

pytestmark = pytest.mark.browser

OFFER = """async (change) => {
  if (!globalThis.other) {
    other = new RTCPeerConnection();
    other.addTransceiver("audio", { direction: "recvonly" });
  }
  change === "add video" && other.addTransceiver("video", { direction: "recvonly" });
  change === "hold" && other.getTransceivers().forEach((one) => (one.direction = "inactive"));
  await other.setLocalDescription(await other.createOffer({ iceRestart: change === "restart" }));
  while (other.iceGatheringState !== "complete") {
    await new Promise((resolve) => other.addEventListener("icegatheringstatechange", resolve, { once: true }));
  }
  return other.localDescription.sdp;
}"""
"""Creates an offer of another RTCPeerConnection of the tab, after a change."""

APPLY = "async (sdp) => other.setRemoteDescription({ type: 'answer', sdp })"
ADD = "async (candidate) => other.addIceCandidate(candidate).catch(() => {})"


async def offer(page: Page, fake: FakeRelay, change: str, call: str | None, round: int | None) -> dict[str, Any]:
    """Offer as the peer "b" after ``change``; return the answer, which is applied."""
    sdp = await page.tab.evaluate(OFFER, change)
    named = {"call": call, "round": round} if call else {}
    fake.send({"type": "offer", "from": "b", "to": "me", "sdp": sdp} | named)
    answer = await fake.next("answer")
    await page.tab.evaluate(APPLY, answer["sdp"])
    return answer


async def pass_candidates_on(page: Page, fake: FakeRelay) -> None:
    while True:
        await page.tab.evaluate(ADD, (await fake.next("candidate"))["candidate"])


async def wait_connected(page: Page, fake: FakeRelay) -> None:
    """Wait until the other connection is connected, while the page's candidates reach it."""
    passing = asyncio.ensure_future(pass_candidates_on(page, fake))
    try:
        await until(
            lambda: page.tab.evaluate("other.iceConnectionState === 'connected'"), lambda: "no ICE connection"
        )
        await page.wait_state("b", "connected")
    finally:
        passing.cancel()


@pytest.mark.parametrize("call", ["c1", None])
async def test_page_keeps_its_connection_at_further_offers(browser: Browser, site: Site, call: str | None) -> None:
    async with joined(browser, site, "b") as (page, fake):
        first = await offer(page, fake, "", call, 1)
        await wait_connected(page, fake)
        await page.tab.evaluate("rig.noteStates(), rig.ended = {}")
        identity = read_identity(first["sdp"])
        expected = [
            ("add video", SecondOffer.RENEGOTIATION),
            ("hold", SecondOffer.RENEGOTIATION),
            ("restart", SecondOffer.ICE_RESTART),
        ]
        for round, (change, kind) in enumerate(expected, 2):
            answer = await offer(page, fake, change, call, round)
            assert (answer.get("call"), answer.get("round")) == ((call, round) if call else (None, None))
            assert classify(identity, read_identity(answer["sdp"])) is kind, change
            await wait_connected(page, fake)
        assert await page.tab.evaluate("rig.ended.b ?? null") is None, "for the user it is the same call"


async def test_page_drops_a_hang_up_of_another_call(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, fake):
        await offer(page, fake, "", "c2", 1)
        await wait_connected(page, fake)
        fake.send({"type": "hang-up", "from": "b", "to": "me", "reason": "hang-up", "call": "c1"})
        fake.send({"type": "offer", "from": "b", "to": "me", "sdp": "v=0", "call": "c3", "round": 2})
        hang_up = {"type": "hang-up", "from": "me", "to": "b", "reason": "unknown-call", "call": "c3", "round": 2}
        assert await fake.next("hang-up") == hang_up
        assert await page.state("b") == "connected"
        fake.send({"type": "hang-up", "from": "b", "to": "me", "reason": "hang-up", "call": "c2"})
        await page.wait_state("b", "available")


async def test_page_ends_the_call_with_a_restarted_peer(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, fake):
        fake.send({"type": "peer-joined", "peerId": "b", "instance": "first"})
        await offer(page, fake, "", "c1", 1)
        await wait_connected(page, fake)
        fake.send({"type": "peer-left", "peerId": "b"})
        fake.send({"type": "peer-joined", "peerId": "b", "instance": "second"})
        await page.wait_state("b", "available")
