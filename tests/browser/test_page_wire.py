"""The page on the wire, against a scripted relay: what it sends, and how it reacts to any message."""

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


class FakeRelay:
    """The relay's end of the page's WebSockets, and every message that the page sent."""

    def __init__(self) -> None:
        self.sockets: list[pw.WebSocketRoute] = []
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def prepare(self, tab: pw.Page) -> None:
        await tab.route_web_socket("**/ws", self._accept)

    def _accept(self, socket: pw.WebSocketRoute) -> None:
        self.sockets.append(socket)
        socket.on_message(lambda text: self.messages.put_nowait(json.loads(text)))

    def send(self, message: object) -> None:
        self.sockets[-1].send(message if isinstance(message, str) else json.dumps(message))

    async def next(self, type: str) -> dict[str, Any]:
        """Return the next message of this type, and skip others."""
        async with asyncio.timeout(RELAXED):
            while (message := await self.messages.get())["type"] != type:
                pass
            return message


@contextlib.asynccontextmanager
async def joined(browser: Browser, site: Site, *peers: str) -> AsyncIterator[tuple[Page, FakeRelay]]:
    fake = FakeRelay()
    async with browser.page(site.page, "me", camera="none", online=False, prepare=fake.prepare) as page:
        await fake.next("join")
        fake.send({"type": "peer-list", "peers": peers})
        await page.wait_server("online")
        yield page, fake


async def test_join_carries_room_token_and_a_constant_key(browser: Browser, site: Site) -> None:
    fake = FakeRelay()
    async with browser.page(
        site.page, "me", camera="none", online=False, prepare=fake.prepare, room="hall", token="s3cret"
    ):
        join = await fake.next("join")
        assert len(join.pop("key")) == 32 and len(join.pop("instance")) == 20
        assert join == {"type": "join", "peerId": "me", "room": "hall", "token": "s3cret"}


async def test_instance_lasts_as_long_as_the_page_and_the_key_longer(browser: Browser, site: Site) -> None:
    fake = FakeRelay()
    async with browser.page(site.page, "me", camera="none", online=False, prepare=fake.prepare) as page:
        join = await fake.next("join")
        await fake.sockets[-1].close(code=1011)
        assert await fake.next("join") == join
        await page.tab.reload()
        reloaded = await fake.next("join")
        assert reloaded["key"] == join["key"] and reloaded["instance"] != join["instance"]


async def test_other_relay_is_joined_after_a_click_without_our_key(browser: Browser, site: Site) -> None:
    """A link from a stranger: with our key, the operator of that relay could take our seat on this one."""
    stranger = "ws://stranger.example:8443/ws"
    fake = FakeRelay()
    async with browser.page(site.page, "", camera="none") as page:
        ours = json.loads(await page.tab.evaluate(f"sessionStorage['seat {site.ws}']"))
        await fake.prepare(page.tab)
        await page.tab.goto(f"{site.page}?server={stranger}")
        await page.wait_notice("This link leads to another relay.")
        await page.wait_server("refused")
        button = page.tab.get_by_role("button", name="Join ws://stranger.example:8443?", exact=True)
        await page.tab.evaluate("dispatchEvent(new Event('online'))")  # makes a page reconnect at once
        await button.wait_for()
        assert not fake.sockets
        await button.click()
        join = await fake.next("join")
        assert fake.sockets[-1].url == stranger
        assert join["key"] != ours["key"] and join["peerId"] != ours["id"]
        fake.send({"type": "peer-list", "peers": []})
        await page.wait_server("online")
        await page.tab.reload()
        again = await fake.next("join")
        assert again | {"instance": ""} == join | {"instance": ""}, "it asks once, and keeps its seat there too"


async def test_other_relay_on_a_phone_is_named_in_full(browser: Browser, site: Site) -> None:
    """Without the user information before the @, which is not the host, and without truncating the host."""
    host = f"{'relay.of.friends.' * 8}example"
    async with browser.page(
        site.page, "a", camera="none", viewport=(320, 640), online=False, server=f"wss://friend.example@{host}/ws"
    ) as page:
        await page.tab.get_by_role("button", name=f"Join wss://{host}?", exact=True).wait_for()
        assert await page.tab.evaluate("document.documentElement.scrollWidth") == 320
        assert await page.tab.evaluate("((b) => b.scrollWidth <= b.offsetWidth)(document.all['notice-action'])")


async def test_own_relay_in_the_address_needs_no_click(browser: Browser, site: Site) -> None:
    fake = FakeRelay()
    async with browser.page(
        site.page, "me", camera="none", online=False, prepare=fake.prepare, server=f"{site.page}ws"
    ):
        assert (await fake.next("join"))["peerId"] == "me"


async def test_glare_after_a_change_of_id_uses_the_new_id(browser: Browser, site: Site) -> None:
    """Our random id was taken during an outage. The lower id wins glare, and aaa < mmm < page-…: we now lose it."""
    fake = FakeRelay()

    async def store_seat(tab: pw.Page) -> None:
        await fake.prepare(tab)
        seat = json.dumps({"id": "aaa", "key": "k" * 32})
        await tab.add_init_script(f"sessionStorage['seat {site.ws}'] ??= {seat!r}")

    async with browser.page(site.page, "", camera="none", online=False, prepare=store_seat) as page:
        assert (await fake.next("join"))["peerId"] == "aaa"
        fake.send({"type": "peer-list", "peers": ["mmm"]})
        await page.call("mmm")
        await fake.next("offer")
        await page.cancel("mmm")
        await fake.sockets[-1].close(code=1011)
        assert (await fake.next("join"))["peerId"] == "aaa"
        fake.send({"type": "error", "code": "id-taken", "message": "…"})
        await fake.sockets[-1].close(code=4409)
        assert (await fake.next("join"))["peerId"].startswith("page-")
        fake.send({"type": "peer-list", "peers": ["mmm"]})
        await page.call("mmm")
        sdp = (await fake.next("offer"))["sdp"]
        fake.send({"type": "offer", "from": "mmm", "to": page.id, "sdp": sdp})
        assert (await fake.next("answer"))["to"] == "mmm"


async def test_invalid_messages_change_nothing(browser: Browser, site: Site) -> None:
    invalid: list[object] = [
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
    async with joined(browser, site, "b") as (page, fake):
        for message in invalid:
            fake.send(message)
        fake.send({"type": "peer-joined", "peerId": "last"})
        await page.wait_state("last", "available")
        assert await page.peers() == {"b": "available", "last": "available"}


async def test_offer_with_invalid_sdp_is_declined(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, fake):
        fake.send({"type": "offer", "from": "b", "to": "me", "sdp": "nonsense"})
        hang_up = await fake.next("hang-up")
        assert "Failed to parse SessionDescription" in hang_up.pop("detail")
        assert hang_up == {"type": "hang-up", "from": "me", "to": "b", "reason": "declined"}
        await page.wait_state("b", "available")


def ice_servers(username: str) -> list[dict[str, Any]]:
    """A TURN server on loopback that never answers: the test only reads Chromium's configuration."""
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
async def test_newest_ice_servers_of_the_relay_are_used(
    browser: Browser, site: Site, later: list[dict[str, Any]], used: str
) -> None:
    async with joined(browser, site, "b") as (page, fake):
        fake.send({"type": "peer-list", "peers": ["b"], "iceServers": ice_servers("first")})
        for message in later:
            fake.send({"type": "ice-servers"} | message)
        await page.tab.evaluate(
            "() => { RTCPeerConnection = class extends RTCPeerConnection {"
            "constructor(configuration) { super(configuration); globalThis.seen = configuration } } }"
        )
        await page.call("b")
        await fake.next("offer")
        assert await page.tab.evaluate("seen.iceServers") == ice_servers(used)


async def test_invalid_ice_servers_fail_only_the_call(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, fake):
        fake.send({"type": "peer-list", "peers": ["b"], "iceServers": [{"urls": "no such scheme"}]})
        await page.call("b")
        await page.tab.wait_for_selector("#log p:has-text('The call with b failed in this browser.')")
        await page.wait_state("b", "available")


async def test_messages_during_an_outage_are_sent_after_it(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "b") as (page, fake):
        await page.call("b")
        offer = await fake.next("offer")
        await fake.sockets[-1].close(code=1011)
        await page.wait_server("offline")
        await page.cancel("b")
        await fake.next("join")
        fake.send({"type": "peer-list", "peers": ["b"]})
        hang_up = {"type": "hang-up", "from": "me", "to": "b", "reason": "hang-up", "call": offer["call"]}
        assert await fake.next("hang-up") == hang_up


async def test_call_to_an_absent_peer_ends_at_once(browser: Browser, site: Site) -> None:
    async with joined(browser, site, "ghost") as (page, fake):
        await page.call("ghost")
        await fake.next("offer")
        fake.send({"type": "error", "code": "peer-not-found", "message": "no such peer", "to": "ghost"})
        await page.wait_state("ghost", None, timeout=1)
        await page.tab.wait_for_selector("#log p:has-text('ghost left.')")


@pytest.mark.parametrize(
    ("code", "close", "notice"),
    [
        ("unauthorized", 4401, "Access denied: this relay requires a token."),
        ("bad-join", 4400, "The relay rejected this id or room."),
    ],
)
async def test_permanent_rejection_is_reported_and_not_retried(
    browser: Browser, site: Site, code: str, close: int, notice: str
) -> None:
    fake = FakeRelay()
    async with browser.page(site.page, "me", camera="none", online=False, prepare=fake.prepare) as page:
        await fake.next("join")
        fake.send({"type": "error", "code": code})
        await fake.sockets[-1].close(code=close)
        await page.wait_server("refused")
        await page.wait_notice(notice)
        await page.tab.evaluate("dispatchEvent(new Event('online'))")
        assert len(fake.sockets) == 1


async def test_full_room_is_retried(browser: Browser, site: Site) -> None:
    fake = FakeRelay()
    async with browser.page(site.page, "me", camera="none", online=False, prepare=fake.prepare) as page:
        await fake.next("join")
        fake.send({"type": "error", "code": "room-full", "message": "…"})
        await fake.sockets[-1].close(code=4429)
        await page.wait_notice("The room is full. Trying again.")
        await fake.next("join")
        fake.send({"type": "peer-list", "peers": []})
        await page.wait_server("online")
        await page.wait_notice("No microphone or camera")
