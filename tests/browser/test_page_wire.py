"""The page against a relay that we play by hand: what it sends, and what it makes of anything that comes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import playwright.async_api as pw
import pytest

from tests.browser.rig import RELAXED, Browser, Page
from tests.browser.site import Site

pytestmark = pytest.mark.browser


class Hand:
    """The relay's end of the page's socket: the newest one, and every frame the page sent."""

    def __init__(self) -> None:
        self.sockets: list[pw.WebSocketRoute] = []
        self.frames: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def prepare(self, tab: pw.Page) -> None:
        await tab.route_web_socket("**/ws", self._accept)

    def _accept(self, socket: pw.WebSocketRoute) -> None:
        self.sockets.append(socket)
        socket.on_message(lambda text: self.frames.put_nowait(json.loads(text)))

    def send(self, message: object) -> None:
        self.sockets[-1].send(message if isinstance(message, str) else json.dumps(message))

    async def next(self, type: str) -> dict[str, Any]:
        """The next frame of this type; others are passed over."""
        async with asyncio.timeout(RELAXED):
            while (frame := await self.frames.get())["type"] != type:
                pass
            return frame


@contextlib.asynccontextmanager
async def joined(browser: Browser, site: Site, *peers: str) -> AsyncIterator[tuple[Page, Hand]]:
    hand = Hand()
    async with browser.page(site.page, "me", camera="none", online=False, prepare=hand.prepare) as page:
        await hand.next("join")
        hand.send({"type": "peer-list", "peers": peers})
        await page.wait_server("online")
        yield page, hand


async def test_join_carries_room_token_and_a_key_that_stays(browser: Browser, site: Site) -> None:
    hand = Hand()
    async with browser.page(
        site.page, "me", camera="none", online=False, prepare=hand.prepare, room="hall", token="s3cret"
    ):
        join = await hand.next("join")
        assert join | {"key": ""} == {"type": "join", "peerId": "me", "room": "hall", "token": "s3cret", "key": ""}
        assert len(join["key"]) == 32
        await hand.sockets[-1].close(code=1011)
        assert (await hand.next("join"))["key"] == join["key"]


async def test_another_relay_is_joined_after_a_click_and_never_gets_our_key(browser: Browser, site: Site) -> None:
    """A stranger's link: whoever runs that relay could take our seat on this one with its key."""
    stranger = "ws://stranger.example:8443/ws"
    hand = Hand()
    async with browser.page(site.page, "", camera="none") as page:
        ours = json.loads(await page.tab.evaluate(f"sessionStorage['seat {site.ws}']"))
        await hand.prepare(page.tab)
        await page.tab.goto(f"{site.page}?server={stranger}")
        await page.wait_notice("This link leads to another relay.")
        await page.wait_server("refused")
        button = page.tab.get_by_role("button", name="Join ws://stranger.example:8443?", exact=True)
        await page.tab.evaluate("dispatchEvent(new Event('online'))")  # what makes a page dial at once
        await button.wait_for()
        assert not hand.sockets
        await button.click()
        join = await hand.next("join")
        assert hand.sockets[-1].url == stranger
        assert join["key"] != ours["key"] and join["peerId"] != ours["id"]
        hand.send({"type": "peer-list", "peers": []})
        await page.wait_server("online")
        await page.tab.reload()
        assert await hand.next("join") == join, "it asks once, and the seat there is kept too"


async def test_the_relay_to_be_joined_is_named_in_full_on_a_phone(browser: Browser, site: Site) -> None:
    """Without the name in front of the @, which is nobody's host, and without a cut that hides whose it is."""
    host = f"{'relay.of.friends.' * 8}example"
    async with browser.page(
        site.page, "a", camera="none", viewport=(320, 640), online=False, server=f"wss://friend.example@{host}/ws"
    ) as page:
        await page.tab.get_by_role("button", name=f"Join wss://{host}?", exact=True).wait_for()
        assert await page.tab.evaluate("document.documentElement.scrollWidth") == 320
        assert await page.tab.evaluate("((b) => b.scrollWidth <= b.offsetWidth)(document.all['notice-action'])")


async def test_the_relay_that_served_the_page_needs_no_click(browser: Browser, site: Site) -> None:
    hand = Hand()
    async with browser.page(
        site.page, "me", camera="none", online=False, prepare=hand.prepare, server=f"{site.page}ws"
    ):
        assert (await hand.next("join"))["peerId"] == "me"


async def test_glare_is_decided_by_the_new_id_after_a_move(browser: Browser, site: Site) -> None:
    """Our random id was taken while we were away. The lower id wins glare; aaa < mmm < page-…, so now we give in."""
    hand = Hand()

    async def sit(tab: pw.Page) -> None:
        await hand.prepare(tab)
        seat = json.dumps({"id": "aaa", "key": "k" * 32})
        await tab.add_init_script(f"sessionStorage['seat {site.ws}'] ??= {seat!r}")

    async with browser.page(site.page, "", camera="none", online=False, prepare=sit) as page:
        assert (await hand.next("join"))["peerId"] == "aaa"
        hand.send({"type": "peer-list", "peers": ["mmm"]})
        await page.call("mmm")
        await hand.next("offer")
        await page.cancel("mmm")
        await hand.sockets[-1].close(code=1011)
        assert (await hand.next("join"))["peerId"] == "aaa"
        hand.send({"type": "error", "code": "id-taken", "message": "…"})
        await hand.sockets[-1].close(code=4409)
        assert (await hand.next("join"))["peerId"].startswith("page-")
        hand.send({"type": "peer-list", "peers": ["mmm"]})
        await page.call("mmm")
        sdp = (await hand.next("offer"))["sdp"]
        hand.send({"type": "offer", "from": "mmm", "to": page.id, "sdp": sdp})
        assert (await hand.next("answer"))["to"] == "mmm"


async def test_nonsense_changes_nothing(browser: Browser, site: Site) -> None:
    nonsense: list[object] = [
        "no JSON {",
        "[1, 2]",
        "null",
        '"text"',
        {},
        {"type": 7},
        {"type": "peer-joined"},
        {"type": "peer-joined", "peerId": ""},
        {"type": "peer-joined", "peerId": ["x"]},
        {"type": "peer-joined", "peerId": "me"},
        {"type": "peer-left", "peerId": None},
        {"type": "offer"},
        {"type": "offer", "from": "me", "to": "me", "sdp": "v=0"},
        {"type": "offer", "from": "", "sdp": "v=0"},
        {"type": "offer", "from": "b", "sdp": 7},
        {"type": "answer", "from": "b", "to": "me", "sdp": "v=0"},
        {"type": "candidate", "from": "b", "to": "me"},
        {"type": "candidate", "from": "b", "to": "me", "candidate": [[[]]]},
        {"type": "candidate", "from": "b", "to": "me", "candidate": {"candidate": "x", "usernameFragment": 7}},
        {"type": "hang-up", "from": "b", "to": "me", "reason": {}},
        {"type": "error"},
        {"type": "error", "code": "peer-not-found", "to": {}},
        {"type": "peer-list", "peers": "abc"},
        {"type": "weather", "from": "b", "to": "me"},
        {"type": "peer-list", "peers": ["b", 7, None, "me", "", "b"], "iceServers": {}},
    ]
    async with joined(browser, site, "b") as (page, hand):
        for frame in nonsense:
            hand.send(frame)
        hand.send({"type": "peer-joined", "peerId": "last"})
        await page.wait_state("last", "available")
        assert await page.peers() == {"b": "available", "last": "available"}


async def test_offer_that_is_no_sdp_is_declined(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, hand):
        hand.send({"type": "offer", "from": "b", "to": "me", "sdp": "nonsense"})
        assert await hand.next("hang-up") == {"type": "hang-up", "from": "me", "to": "b", "reason": "declined"}
        await page.wait_state("b", "available")


def ice_servers(username: str) -> list[dict[str, Any]]:
    """One that never answers, on loopback: what counts is that Chromium is told."""
    return [{"urls": ["turn:127.0.0.1:9?transport=udp"], "username": username, "credential": "c"}]


@pytest.mark.parametrize(
    ("later", "used"),
    [
        ([], "first"),
        ([{"iceServers": ice_servers("second")}], "second"),
        ([{"iceServers": ice_servers("second"), "from": "b"}], "first"),
        ([{"iceServers": ice_servers("second"), "from": None}], "first"),
        ([{"iceServers": ice_servers("second")}, {"iceServers": ice_servers("third")}], "third"),
    ],
)
async def test_the_newest_ice_servers_of_the_relay_are_used(
    browser: Browser, site: Site, later: list[dict[str, Any]], used: str
) -> None:
    async with joined(browser, site, "b") as (page, hand):
        hand.send({"type": "peer-list", "peers": ["b"], "iceServers": ice_servers("first")})
        for message in later:
            hand.send({"type": "ice-servers"} | message)
        await page.tab.evaluate(
            "() => { RTCPeerConnection = class extends RTCPeerConnection {"
            "constructor(configuration) { super(configuration); globalThis.seen = configuration } } }"
        )
        await page.call("b")
        await hand.next("offer")
        assert await page.tab.evaluate("seen.iceServers") == ice_servers(used)


async def test_ice_servers_that_are_none_fail_the_call_and_not_the_page(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, hand):
        hand.send({"type": "peer-list", "peers": ["b"], "iceServers": [{"urls": "no such scheme"}]})
        await page.call("b")
        await page.tab.wait_for_selector("#log p:has-text('The call with b failed in this browser.')")
        await page.wait_state("b", "available")


async def test_frames_of_a_call_wait_for_the_relay_in_order(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, hand):
        await page.call("b")
        await hand.next("offer")
        await hand.sockets[-1].close(code=1011)
        await page.wait_server("offline")
        await page.cancel("b")
        await hand.next("join")
        hand.send({"type": "peer-list", "peers": ["b"]})
        assert await hand.next("hang-up") == {"type": "hang-up", "from": "me", "to": "b", "reason": "hang-up"}


async def test_call_to_a_peer_that_is_not_there_ends_at_once(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "ghost") as (page, hand):
        await page.call("ghost")
        await hand.next("offer")
        hand.send({"type": "error", "code": "peer-not-found", "message": "no such peer", "to": "ghost"})
        await page.wait_state("ghost", None, timeout=1)
        await page.tab.wait_for_selector("#log p:has-text('ghost left.')")


@pytest.mark.parametrize(
    ("code", "close", "says"),
    [
        ("unauthorized", 4401, "The relay does not let us in without its token."),
        ("bad-join", 4400, "The relay does not accept this id or room."),
    ],
)
async def test_refusal_is_said_and_not_tried_again(
    browser: Browser, site: Site, code: str, close: int, says: str
) -> None:
    hand = Hand()
    async with browser.page(site.page, "me", camera="none", online=False, prepare=hand.prepare) as page:
        await hand.next("join")
        hand.send({"type": "error", "code": code, "message": "…"})
        await hand.sockets[-1].close(code=close)
        await page.wait_server("refused")
        await page.wait_notice(says)
        await page.tab.evaluate("dispatchEvent(new Event('online'))")
        assert len(hand.sockets) == 1


async def test_room_that_is_full_is_tried_again(browser: Browser, site: Site) -> None:
    hand = Hand()
    async with browser.page(site.page, "me", camera="none", online=False, prepare=hand.prepare) as page:
        await hand.next("join")
        hand.send({"type": "error", "code": "room-full", "message": "…"})
        await hand.sockets[-1].close(code=4429)
        await page.wait_notice("The room is full. Trying again.")
        await hand.next("join")
        hand.send({"type": "peer-list", "peers": []})
        await page.wait_server("online")
        await page.wait_notice("No microphone or camera")
