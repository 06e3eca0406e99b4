"""Drives the page in Chromium like a user: opens it, clicks, samples the video, and measures the sound.

    async with launch() as browser:
        async with browser.page(url, "a") as a, browser.page(url, "b") as b:
            await a.call("b")
            await a.wait_state("b", "connected")
            video = await a.wait_video("b")            # waits until decoded frames advance; .samples are RGB
            sound = await a.sound("b")                 # level and dominant frequency

``url`` is the address at which a relay serves its page, ``http://127.0.0.1:PORT/``. ``browser.legacy_page`` opens the
legacy React page instead, with the same methods. There is one Chromium per test session, and one context (cookies,
storage) per page.

Each page gets its own camera, a flat ``color`` with a moving square, and its own microphone, a ``tone`` in Hz. They
identify the page at the remote. ``camera="fake"`` is Chromium's fake device, ``"none"`` a machine without devices.
With ``"asked"``, the user has not yet answered the permission prompt (``allow``). Leaving a page fails the test if
the page's scripts threw an exception.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import playwright.async_api as pw

RELAXED = 20.0
"""Time-out in seconds for tests that do not measure time."""

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    # Only loopback is resolved: the legacy page uses a public STUN server. relay.test is this machine as an insecure
    # context: plain http, and not localhost.
    "--host-resolver-rules=MAP relay.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    # Calls must work on a machine with only a loopback interface, where .local names cannot be resolved.
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,HttpsUpgrades",
)

State = Literal["available", "calling", "ringing", "incoming", "connected", "silent"]
Color = tuple[int, int, int]

RED: Color = (200, 40, 40)
GREEN: Color = (40, 170, 40)
BLUE: Color = (50, 60, 210)
WHITE: Color = (255, 255, 255)

_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Video:
    """The present state of a ``<video>``: ``frames`` decoded so far, ``samples`` of 5 x 3 pixels, row by row."""

    width: int
    height: int
    frames: int
    samples: tuple[Color, ...]

    def shows(self, color: Color, tolerance: int = 40) -> bool:
        """Whether most of the frame is ``color``. The tolerance covers the loss of the codec."""
        alike = [all(abs(a - b) <= tolerance for a, b in zip(s, color, strict=True)) for s in self.samples]
        return sum(alike) * 2 > len(alike)


@dataclass(frozen=True, slots=True)
class Sound:
    """Measured audio: ``level`` in dBFS (RMS), and the dominant frequency in Hz, within 12 Hz."""

    level: float
    frequency: float


async def until(
    condition: Callable[[], Awaitable[bool]], otherwise: Callable[[], str], timeout: float = RELAXED
) -> None:
    """Poll ``condition``. Fail with the text of ``otherwise`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, f"{otherwise()}, after {timeout} s"
        await asyncio.sleep(0.03)


class Page:
    """The page in a tab. ``tab`` is Playwright's page, for everything else."""

    def __init__(self, tab: pw.Page, id: str) -> None:
        self.tab = tab
        self.id = id
        self.errors: list[str] = []
        """Exceptions that the page's scripts threw."""
        self.log: list[str] = []
        """Console lines; the page logs each command of its negotiation, for instance ``b SendOffer``."""
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("console", lambda message: self.log.append(message.text))

    async def peers(self) -> dict[str, str]:
        """All peers in the table, and their states."""
        rows = "Array.from(document.querySelectorAll('#peers tr'), (row) => [row.dataset.peer, row.dataset.state])"
        return dict(await self.tab.evaluate(rows))

    async def state(self, peer: str) -> str | None:
        """State of a peer (see ``State``), or None if it is not in the room."""
        return (await self.peers()).get(peer)

    async def wait_state(self, peer: str, *states: str | None, timeout: float = RELAXED) -> None:
        """Wait until ``peer`` is in one of ``states``."""
        state: str | None = None

        async def reached() -> bool:
            nonlocal state
            state = await self.state(peer)
            return state in states

        await until(reached, lambda: f"{self.id} sees {peer} {state}, not {states}", timeout)

    async def ended(self, peer: str) -> float:
        """When the last connected call with ``peer`` ended, in Unix seconds, noted by the page itself."""
        return float(await self.tab.evaluate("(peer) => rig.ended[peer]", peer)) / 1000

    async def now(self) -> float:
        """The time of the page, in Unix seconds."""
        return float(await self.tab.evaluate("Date.now()")) / 1000

    async def wait_server(self, state: str, timeout: float = RELAXED) -> None:
        """Wait until the page is ``connecting``, ``online``, ``offline`` or ``refused``."""
        await self.tab.wait_for_selector(f"#server[data-state={state}]", timeout=timeout * 1000)

    async def call(self, peer: str) -> None:
        """Click Call as soon as ``peer`` is in the room."""
        await self._click(peer, "call")

    async def ready(self, peer: str) -> None:
        """Wait until Call reacts to clicks: a button whose meaning has changed ignores them for a moment."""
        await self.tab.wait_for_selector(self._call_button(peer), timeout=RELAXED * 1000)

    async def call_now(self, peer: str) -> bool:
        """Click Call by script, if it exists: for glare, where moving the pointer takes too long."""
        return bool(await self.tab.evaluate("(selector) => rig.click(selector)", self._call_button(peer)))

    async def cancel(self, peer: str) -> None:
        await self._click(peer, "cancel")

    async def hang_up(self, peer: str) -> None:
        await self._click(peer, "hang-up")

    async def answer(self, peer: str) -> None:
        """Click Answer in the line of a call that rings."""
        await self._click_ringing(peer, "answer")

    async def decline(self, peer: str) -> None:
        """Click Decline in the line of a call that rings."""
        await self._click_ringing(peer, "decline")

    async def _click_ringing(self, peer: str, action: str) -> None:
        button = f'#ringing li[data-peer="{peer}"] button[data-action={action}]:not([aria-disabled=true])'
        await self.tab.click(button, timeout=RELAXED * 1000)

    async def _click(self, peer: str, action: str) -> None:
        button = self.tab.locator(f'#peers tr[data-peer="{peer}"] button[data-action={action}]')
        await button.click(timeout=RELAXED * 1000)

    def _call_button(self, peer: str) -> str:
        return f'#peers tr[data-peer="{peer}"] button[data-action=call]:not([aria-disabled=true])'

    async def allow(self) -> None:
        """Grant the permission that ``camera="asked"`` waits for."""
        await self.tab.evaluate("rig.allow()")

    async def unplug(self) -> None:
        """Unplug camera and microphone."""
        await self.tab.evaluate("rig.unplug()")

    async def plug(self) -> None:
        """Plug camera and microphone in again."""
        await self.tab.evaluate("rig.plug()")

    async def notice(self) -> str:
        """The message to the user; empty if there is none."""
        return (await self.tab.inner_text("#notice")).strip() if await self.tab.is_visible("#notice") else ""

    async def wait_notice(self, text: str, timeout: float = RELAXED) -> None:
        """Wait until the message begins with ``text``, or until there is none if ``text`` is empty."""
        notice = ""

        async def reached() -> bool:
            nonlocal notice
            notice = await self.notice()
            return notice.startswith(text) if text else not notice

        await until(reached, lambda: f"{self.id} shows {notice!r}, not {text!r}", timeout)

    async def crash(self) -> None:
        """Crash the tab, so that no further script runs in it."""
        with contextlib.suppress(pw.Error):
            await self.tab.goto("chrome://crash", timeout=1000)

    async def video(self, peer: str | None = None) -> Video | None:
        """The video of ``peer``, or the local one; None if there is no video."""
        seen = await self.tab.evaluate("(selector) => rig.video(selector)", self._selector(peer))
        if seen is None:
            return None
        return Video(seen["width"], seen["height"], seen["frames"], tuple(tuple(rgb) for rgb in seen["samples"]))

    async def wait_video(self, peer: str | None = None, *, frames: int = 5, timeout: float = RELAXED) -> Video:
        """Wait until ``frames`` more frames of ``peer`` have been decoded."""
        video: Video | None = None
        first: int | None = None

        async def advanced() -> bool:
            nonlocal video, first
            video = await self.video(peer)
            if video is not None and first is None:
                first = video.frames
            return video is not None and first is not None and video.frames >= first + frames

        await until(advanced, lambda: f"{self.id} got no {frames} new frames of {peer}: {video}", timeout)
        assert video is not None
        return video

    async def sound(self, peer: str, seconds: float = 0.5) -> Sound:
        """The audio of ``peer``: its loudest moment within ``seconds``."""
        heard = await self.tab.evaluate(
            "([selector, seconds]) => rig.sound(selector, seconds)", [self._selector(peer), seconds]
        )
        return Sound(heard["level"], heard["frequency"])

    async def played(self, seconds: float = 0.5) -> Sound:
        """What the page plays with Web Audio, for instance its ringing: the loudest moment within ``seconds``."""
        heard = await self.tab.evaluate("(seconds) => rig.played(seconds)", seconds)
        return Sound(heard["level"], heard["frequency"])

    def _selector(self, peer: str | None) -> str:
        return "#me video" if peer is None else f'#stage .card[data-peer="{peer}"] video'


class LegacyPage(Page):
    """The legacy React page. It has three states, and hangs up without a message."""

    _STATES: ClassVar = {"Available": "available", "Calling...": "calling", "Connected": "connected"}

    async def peers(self) -> dict[str, str]:
        rows = (
            "Array.from(document.querySelectorAll('tbody tr'), (r) => [r.cells[0].innerText, r.cells[1].innerText])"
        )
        return {peer.strip(): self._STATES[state.strip()] for peer, state in await self.tab.evaluate(rows)}

    async def _click(self, peer: str, action: str) -> None:
        label = {"call": "Call", "cancel": "Cancel", "hang-up": "Hang Up"}[action]
        row = self.tab.locator("tbody tr", has=self.tab.get_by_role("cell", name=peer, exact=True))
        await row.get_by_role("button", name=label, exact=True).click(timeout=RELAXED * 1000)

    def _call_button(self, peer: str) -> str:
        return f"xpath=//tr[td[normalize-space()='{peer}']]//button[normalize-space()='Call']"

    def _selector(self, peer: str | None) -> str:
        name = f"Me ({self.id})" if peer is None else peer
        return f"xpath=//p[normalize-space()='{name}']/following-sibling::video"


class Browser:
    """One Chromium; see ``launch``."""

    def __init__(self, chromium: pw.Browser) -> None:
        self.chromium = chromium

    @contextlib.asynccontextmanager
    async def page(
        self,
        url: str,
        id: str,
        *,
        camera: Literal["own", "fake", "none", "asked"] = "own",
        color: Color = BLUE,
        tone: float = 440.0,
        viewport: tuple[int, int] = (1000, 700),
        online: bool = True,
        prepare: Callable[[pw.Page], Awaitable[None]] | None = None,
        **query: str,
    ) -> AsyncIterator[Page]:
        """Open the page at ``url`` as ``id``. ``query`` is added to the address: ``room``, ``token``, ``server``, …

        ``online``: wait until it has joined, and confirm when it asks whether to join another relay. ``prepare`` is
        called with the empty tab.
        """
        query = {"id": id, "size": "320x180", "fps": "15"} | query
        async with self._tab(camera, color, tone, viewport) as tab:
            page = Page(tab, id)
            if prepare is not None:
                await prepare(tab)
            await tab.goto(f"{url}?{urllib.parse.urlencode(query)}")
            if online:
                if "server" in query:  # not the relay that served the page: it asks for confirmation
                    await tab.click("#notice-action")
                await page.wait_server("online")
            yield page
            assert not page.errors, f"{id} threw: {page.errors}"

    @contextlib.asynccontextmanager
    async def legacy_page(
        self, site: str, server: str, *, id: str | None = None, color: Color = BLUE, tone: float = 440.0
    ) -> AsyncIterator[LegacyPage]:
        """Open the legacy page of ``tests.legacy.old_page_site``, connected to ``server``, not ws://localhost:8080/ws.

        Its id is random. ``id`` replaces it, for a certain order in glare.
        """
        async with self._tab("own", color, tone, (1000, 700)) as tab:
            await tab.add_init_script(f"rig.dial('ws://localhost:8080/ws', {server!r})")
            if id is not None:
                await tab.add_init_script(f"rig.dice({id!r})")
            await tab.goto(site)
            text = await tab.inner_text("strong:has-text('My ID:') >> xpath=..")
            page = LegacyPage(tab, text.removeprefix("My ID:").strip())
            yield page

    @contextlib.asynccontextmanager
    async def _tab(self, camera: str, color: Color, tone: float, viewport: tuple[int, int]) -> AsyncIterator[pw.Page]:
        width, height = viewport
        context = await self.chromium.new_context(viewport={"width": width, "height": height})
        try:
            tab = await context.new_page()
            await tab.add_init_script(path=_SCRIPTS / "rig.js")
            if camera != "fake":
                await tab.add_init_script(f"rig.camera({camera!r}, {list(color)}, {tone})")
            yield tab
        finally:
            await context.close()


@contextlib.asynccontextmanager
async def launch(*flags: str) -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window, with a profile of its own. ``flags`` come on top of ``FLAGS``."""
    executable = shutil.which("chromium")
    assert executable, "these tests need Debian's package chromium"
    async with pw.async_playwright() as playwright:
        options: dict[str, Any] = {"executable_path": executable, "args": [*FLAGS, *flags], "headless": True}
        chromium = await playwright.chromium.launch(**options)
        try:
            yield Browser(chromium)
        finally:
            await chromium.close()
