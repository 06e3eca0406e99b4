"""Chromium as a person uses it: open the page, click, look at the pixels, listen to the sound.

    async with launch() as browser:
        async with browser.page(url, "a") as a, browser.page(url, "b") as b:
            await a.call("b")
            await a.wait_state("b", "connected")
            picture = await a.wait_video("b")          # decoded frames advance; .samples are RGB
            sound = await a.sound("b")                 # level and loudest frequency

``url`` is where a relay serves its page, ``http://127.0.0.1:PORT/``. ``browser.old_page(site, server, …)`` opens the
old React page instead, with the same methods. One Chromium a session, one context (cookies, storage) a page.

Each page gets a camera of its own: one flat ``colour`` with a square that moves, and a ``tone`` in Hz, so that a
test can tell whose picture it sees and whose sound it hears. ``camera="fake"`` is Chromium's fake device, ``"none"``
a machine without any, ``"asked"`` one whose user has not yet said yes (``allow``). Leaving a page fails the test if
its scripts threw.
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
"""Seconds that anything may take when the test is not about how long it takes."""

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
    # Nothing but loopback is ever looked up: the old page asks for a STUN server of somebody else. relay.test is this
    # machine as seen by a browser that does not trust it: plain http, and not localhost.
    "--host-resolver-rules=MAP relay.test 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    # Machines with nothing but loopback must do, and without multicast .local names lead nowhere.
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns,HttpsUpgrades",
)

State = Literal["available", "calling", "incoming", "connected", "silent"]
Colour = tuple[int, int, int]

RED: Colour = (200, 40, 40)
GREEN: Colour = (40, 170, 40)
BLUE: Colour = (50, 60, 210)

_SCRIPTS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Video:
    """What a ``<video>`` shows now. ``frames`` counts decoded frames, ``samples`` are 5 x 3 pixels, row by row."""

    width: int
    height: int
    frames: int
    samples: tuple[Colour, ...]

    def shows(self, colour: Colour, tolerance: int = 40) -> bool:
        """Whether most of the picture is ``colour``, as well as a lossy codec keeps it."""
        alike = [all(abs(a - b) <= tolerance for a, b in zip(s, colour, strict=True)) for s in self.samples]
        return sum(alike) * 2 > len(alike)


@dataclass(frozen=True, slots=True)
class Sound:
    """What is heard: ``level`` in dBFS (RMS), the loudest frequency in Hz, within 12 Hz."""

    level: float
    frequency: float


async def until(
    condition: Callable[[], Awaitable[bool]], otherwise: Callable[[], str], timeout: float = RELAXED
) -> None:
    """Poll a browser, which cannot call us. Fails with what ``otherwise`` says after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, f"{otherwise()}, after {timeout} s"
        await asyncio.sleep(0.03)


class Page:
    """Our page in a tab. ``tab`` is Playwright's page, for whatever is not here."""

    def __init__(self, tab: pw.Page, id: str) -> None:
        self.tab = tab
        self.id = id
        self.errors: list[str] = []
        """What the page's scripts threw."""
        self.log: list[str] = []
        """What they wrote to the console; of ours: each command of its negotiation, ``b SendOffer``."""
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("console", lambda message: self.log.append(message.text))

    async def peers(self) -> dict[str, str]:
        """Everybody in the table and their state."""
        rows = "Array.from(document.querySelectorAll('#peers tr'), (row) => [row.dataset.peer, row.dataset.state])"
        return dict(await self.tab.evaluate(rows))

    async def state(self, peer: str) -> str | None:
        """``available``, ``calling``, ``incoming``, ``connected``, ``silent``; None: not in the room."""
        return (await self.peers()).get(peer)

    async def wait_state(self, peer: str, *states: str | None, timeout: float = RELAXED) -> None:
        """Until ``peer`` is in one of ``states``."""
        state: str | None = None

        async def reached() -> bool:
            nonlocal state
            state = await self.state(peer)
            return state in states

        await until(reached, lambda: f"{self.id} sees {peer} {state}, not {states}", timeout)

    async def wait_server(self, state: str, timeout: float = RELAXED) -> None:
        """Until the page is ``connecting``, ``online``, ``offline`` or ``refused``."""
        await self.tab.wait_for_selector(f"#server[data-state={state}]", timeout=timeout * 1000)

    async def call(self, peer: str) -> None:
        """Click Call, as soon as ``peer`` is there."""
        await self._click(peer, "call")

    async def ready(self, peer: str) -> None:
        """Until Call can be clicked: a button that has just changed its meaning waits a moment."""
        await self.tab.wait_for_selector(self._call_button(peer), timeout=RELAXED * 1000)

    async def call_now(self, peer: str) -> bool:
        """Click Call if it is there this very moment: for glare, where a pointer's way there takes too long."""
        return bool(await self.tab.evaluate("(selector) => rig.click(selector)", self._call_button(peer)))

    async def cancel(self, peer: str) -> None:
        await self._click(peer, "cancel")

    async def hang_up(self, peer: str) -> None:
        await self._click(peer, "hang-up")

    async def _click(self, peer: str, action: str) -> None:
        button = self.tab.locator(f'#peers tr[data-peer="{peer}"] button[data-action={action}]')
        await button.click(timeout=RELAXED * 1000)

    def _call_button(self, peer: str) -> str:
        return f'#peers tr[data-peer="{peer}"] button[data-action=call]:not([aria-disabled=true])'

    async def allow(self) -> None:
        """The user says yes to the camera (``camera="asked"``)."""
        await self.tab.evaluate("rig.allow()")

    async def unplug(self) -> None:
        """Camera and microphone are pulled."""
        await self.tab.evaluate("rig.unplug()")

    async def plug(self) -> None:
        """And put back."""
        await self.tab.evaluate("rig.plug()")

    async def notice(self) -> str:
        """The line that says what is wrong; empty when nothing is."""
        return (await self.tab.inner_text("#notice")).strip() if await self.tab.is_visible("#notice") else ""

    async def wait_notice(self, text: str, timeout: float = RELAXED) -> None:
        """Until that line begins with ``text``; until there is none, for an empty one."""
        notice = ""

        async def reached() -> bool:
            nonlocal notice
            notice = await self.notice()
            return notice.startswith(text) if text else not notice

        await until(reached, lambda: f"{self.id} says {notice!r}, not {text!r}", timeout)

    async def crash(self) -> None:
        """The tab dies without running another line of script."""
        with contextlib.suppress(pw.Error):
            await self.tab.goto("chrome://crash", timeout=1000)

    async def video(self, peer: str | None = None) -> Video | None:
        """What is shown of ``peer``, or of ourselves; None: there is no picture."""
        seen = await self.tab.evaluate("(selector) => rig.video(selector)", self._selector(peer))
        if seen is None:
            return None
        return Video(seen["width"], seen["height"], seen["frames"], tuple(tuple(rgb) for rgb in seen["samples"]))

    async def wait_video(self, peer: str | None = None, *, frames: int = 5, timeout: float = RELAXED) -> Video:
        """Until ``frames`` more frames of ``peer`` were decoded than now."""
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
        """What is heard of ``peer``: the loudest moment within ``seconds``."""
        heard = await self.tab.evaluate(
            "([selector, seconds]) => rig.sound(selector, seconds)", [self._selector(peer), seconds]
        )
        return Sound(heard["level"], heard["frequency"])

    def _selector(self, peer: str | None) -> str:
        return "#me video" if peer is None else f'#stage .card[data-peer="{peer}"] video'


class OldPage(Page):
    """The old React page. It knows three states, and hangs up without telling anybody."""

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
        colour: Colour = BLUE,
        tone: float = 440.0,
        viewport: tuple[int, int] = (1000, 700),
        online: bool = True,
        prepare: Callable[[pw.Page], Awaitable[None]] | None = None,
        **query: str,
    ) -> AsyncIterator[Page]:
        """Our page, opened at ``url`` as ``id``. ``query`` goes into the address: ``room``, ``token``, ``server``, …

        ``online``: wait until it has joined, and say yes when it asks whether to join another relay. ``prepare`` gets
        the tab before anything is opened in it.
        """
        query = {"id": id, "size": "320x180", "fps": "15"} | query
        async with self._tab(camera, colour, tone, viewport) as tab:
            page = Page(tab, id)
            if prepare is not None:
                await prepare(tab)
            await tab.goto(f"{url}?{urllib.parse.urlencode(query)}")
            if online:
                if "server" in query:  # a relay that did not serve the page: it asks
                    await tab.click("#notice-action")
                await page.wait_server("online")
            yield page
            assert not page.errors, f"{id} threw: {page.errors}"

    @contextlib.asynccontextmanager
    async def old_page(
        self, site: str, server: str, *, id: str | None = None, colour: Colour = BLUE, tone: float = 440.0
    ) -> AsyncIterator[OldPage]:
        """The old page of ``tests.legacy.old_page_site``, made to dial ``server`` instead of ws://localhost:8080/ws.

        It rolls dice for its id; with ``id`` they fall that way, for glare in a certain order.
        """
        async with self._tab("own", colour, tone, (1000, 700)) as tab:
            await tab.add_init_script(f"rig.dial('ws://localhost:8080/ws', {server!r})")
            if id is not None:
                await tab.add_init_script(f"rig.dice({id!r})")
            await tab.goto(site)
            text = await tab.inner_text("strong:has-text('My ID:') >> xpath=..")
            page = OldPage(tab, text.removeprefix("My ID:").strip())
            yield page

    @contextlib.asynccontextmanager
    async def _tab(
        self, camera: str, colour: Colour, tone: float, viewport: tuple[int, int]
    ) -> AsyncIterator[pw.Page]:
        width, height = viewport
        context = await self.chromium.new_context(viewport={"width": width, "height": height})
        try:
            tab = await context.new_page()
            await tab.add_init_script(path=_SCRIPTS / "rig.js")
            if camera != "fake":
                await tab.add_init_script(f"rig.camera({camera!r}, {list(colour)}, {tone})")
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
