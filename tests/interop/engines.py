"""Other WebRTC stacks as programs that a test drives: requests, replies and events in JSON.

Requests, with ``connection``, a name that the test chooses:

| method | parameters | result |
|---|---|---|
| create | sections, rejected: kinds to reject, sinks: UDP port per kind | source: UDP port for RTP to send |
| add | section | |
| offer | iceRestart | sdp |
| answer | sdp: an offer | sdp |
| accept | sdp: an answer | |
| candidate | candidate: W3C RTCIceCandidateInit | |
| direction | kind, direction | |
| stop | kind | |
| keyframe, close | | |
| received | | frames, width, height, frequency (browsers only) |
| watch | | (browsers only) |
| gap | | gap: longest time without a received packet since watch, in seconds (browsers only) |

A section is ``{kind: audio|video|data, codec?, direction?}``. Browsers have no sinks and no source. Events are
``candidate``, and ``state`` with the W3C connectionState.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

from tests.browser import rig
from tests.builds import built, cache, run
from tests.interop import firefox

PROGRAMS = Path(__file__).parent / "programs"

TIMEOUT = 20.0
"""Time-out of a request in seconds."""

Listener = Callable[[dict[str, Any]], None]


class EngineError(Exception):
    """The other stack rejected a request."""


class Engine(Protocol):
    """One other WebRTC stack."""

    name: str
    carries_rtp: bool
    """Whether it carries RTP that the test makes, instead of media of its own."""
    listeners: dict[str, Listener]
    """Receivers of the events, by connection."""

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request. Raises EngineError."""


class ProgramEngine:
    """A program that reads requests from standard input and writes replies and events to standard output."""

    carries_rtp = True

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.listeners: dict[str, Listener] = {}
        self._process = process
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        id_ = next(self._ids)
        reply = self._pending[id_] = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": id_, "method": method, "params": params})
        self._process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(TIMEOUT):
            return await reply

    async def read(self) -> None:
        """Dispatch replies and events until the program ends."""
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            message = json.loads(line)
            if "event" in message:
                if listener := self.listeners.get(message["connection"]):
                    listener(message)
                continue
            reply = self._pending.pop(message["id"])
            if reply.done():
                continue
            if "error" in message:
                reply.set_exception(EngineError(f"{self.name}: {message['error']}"))
            else:
                reply.set_result(message["result"] or {})
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(EngineError(f"{self.name} ended"))


class BrowserEngine:
    """``programs/browser.js`` in a page. ``call`` calls a method of it."""

    carries_rtp = False

    def __init__(self, name: str, call: Callable[[str, dict[str, Any]], Any]) -> None:
        self.name = name
        self.listeners: dict[str, Listener] = {}
        self.firefox: firefox.Firefox | None = None
        """For other tabs, if it is Firefox."""
        self._call = call

    def emit(self, event: dict[str, Any]) -> None:
        """Dispatch an event."""
        if listener := self.listeners.get(event["connection"]):
            listener(event)

    async def request(self, method: str, **params: Any) -> dict[str, Any]:
        async with asyncio.timeout(TIMEOUT):
            try:
                return await self._call(method, params) or {}
            except (firefox.ScriptError, rig.pw.Error) as exc:
                raise EngineError(f"{self.name}: {exc}") from None


@contextlib.asynccontextmanager
async def launch(name: str) -> AsyncIterator[Engine]:
    """Start the stack ``name``: firefox, chromium, pion, werift or libdatachannel."""
    launchers: dict[str, Callable[[], contextlib.AbstractAsyncContextManager[Engine]]] = {
        "firefox": _firefox,
        "chromium": _chromium,
        "pion": lambda: _program("pion", str(_pion())),
        "werift": lambda: _program("werift", _node(), str(_node_programs() / "werift.mjs")),
        "libdatachannel": lambda: _program("libdatachannel", _node(), str(_node_programs() / "libdatachannel.mjs")),
    }
    async with launchers[name]() as engine:
        yield engine


@contextlib.asynccontextmanager
async def _program(name: str, *command: str) -> AsyncIterator[Engine]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 20)
    engine = ProgramEngine(name, process)
    reading = asyncio.create_task(engine.read())
    try:
        yield engine
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(5):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
        await reading


@contextlib.asynccontextmanager
async def _firefox() -> AsyncIterator[Engine]:
    async with firefox.launch() as browser, browser.tab() as tab:
        engine = BrowserEngine("firefox", lambda method, params: tab.call(f"interop.{method}", params))
        engine.firefox = browser
        await tab.expose("emit", lambda text: engine.emit(json.loads(text)))
        await tab.run((PROGRAMS / "browser.js").read_text())
        yield engine


@contextlib.asynccontextmanager
async def _chromium() -> AsyncIterator[Engine]:
    async with rig.launch() as browser:
        context = await browser.chromium.new_context()
        tab = await context.new_page()
        engine = BrowserEngine(
            "chromium", lambda method, params: tab.evaluate(f"(params) => interop.{method}(params)", params)
        )
        await tab.expose_function("emit", engine.emit)
        await tab.evaluate((PROGRAMS / "browser.js").read_text())
        yield engine
        await context.close()


def _node() -> str:
    node = shutil.which("node")
    assert node, "these tests need the packages nodejs and npm"
    return node


@functools.cache
def _node_programs() -> Path:
    """Folder with the programs for Node.js beside their packages, as Node.js looks for them."""
    names = ("driven.mjs", "werift.mjs", "libdatachannel.mjs")

    def install(out: Path) -> None:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(PROGRAMS / name, out)
        run(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], os.environ, "npm", out)

    def assemble(out: Path) -> None:
        for name in names:
            shutil.copy(PROGRAMS / name, out)
        (out / "node_modules").symlink_to(packages / "node_modules")

    packages = built("interop-packages", [PROGRAMS / "package.json", PROGRAMS / "package-lock.json"], install)
    return built("interop-programs", [PROGRAMS / "package-lock.json", *(PROGRAMS / name for name in names)], assemble)


@functools.cache
def _pion() -> Path:
    """The program ``pion.go``, compiled with the packages of Debian."""

    def build(out: Path) -> None:
        # Without a go.mod file beside the program, GOPATH mode does not know the "/v3" in the path of a package.
        folder = out / "src" / "interop"
        folder.mkdir(parents=True)
        (folder / "go.mod").write_text("module interop\n")
        shutil.copy(PROGRAMS / "pion.go", folder)
        env = os.environ | {
            "GO111MODULE": "off",
            "GOPATH": f"{out}:/usr/share/gocode",
            "GOCACHE": str(cache() / "go"),
        }
        needs = "golang-go and golang-github-pion-webrtc.v3-dev"
        run(["go", "build", "-o", str(out / "pion"), "."], env, needs, folder)

    return built("interop-pion", [PROGRAMS / "pion.go"], build) / "pion"
