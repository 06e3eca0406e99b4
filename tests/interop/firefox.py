"""Firefox without a window, driven with WebDriver BiDi (W3C), which it serves on a WebSocket.

    async with launch() as firefox, firefox.tab() as tab:
        await tab.goto(url)
        title = await tab.call("() => document.title")

It plays to a PulseAudio server of its own: without one, no AudioContext of Firefox ever starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from tests.media.sound_server import SoundServer
from tests.waiting import until

STARTING = 60.0
"""Maximum time from the start of the process until it accepts commands, in seconds. Usually 3 s."""

PREFERENCES: dict[str, bool | int | str] = {
    "media.peerconnection.ice.obfuscate_host_addresses": False,  # .local names cannot be resolved without a network
    "media.peerconnection.ice.loopback": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "media.gmp-manager.updateEnabled": False,
    "media.gmp-manager.url": "",
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "app.normandy.enabled": False,
    "browser.safebrowsing.update.enabled": False,
    "services.settings.server": "",
    "toolkit.telemetry.enabled": False,
}
"""Host candidates are addresses, media plays without a click, and nothing is fetched from the network."""


class ScriptError(Exception):
    """A script threw an exception, or a command failed."""


class Firefox:
    """One Firefox; see ``launch``."""

    def __init__(self, socket: ClientConnection) -> None:
        self.exposed: dict[str, Callable[[str], None]] = {}
        """Callbacks of the tabs, by channel."""
        self._socket = socket
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}

    @contextlib.asynccontextmanager
    async def tab(self) -> AsyncIterator[Tab]:
        """Open a tab in the foreground, and close it at the end."""
        context = (await self.command("browsingContext.create", type="tab"))["context"]
        await self.command("browsingContext.activate", context=context)
        try:
            yield Tab(self, context)
        finally:
            await self.command("browsingContext.close", context=context)

    async def command(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and return its result. Raises ScriptError."""
        id_ = next(self._ids)
        reply = self._pending[id_] = asyncio.get_running_loop().create_future()
        await self._socket.send(json.dumps({"id": id_, "method": method, "params": params}))
        return await reply

    async def read(self) -> None:
        """Dispatch replies and events until Firefox closes the connection."""
        async for text in self._socket:
            message = json.loads(text)
            if message["type"] == "event":
                if message["method"] == "script.message":
                    self.exposed[message["params"]["channel"]](message["params"]["data"]["value"])
                continue
            reply = self._pending.pop(message["id"])
            if reply.done():
                continue
            if message["type"] == "error":
                reply.set_exception(ScriptError(f"{message['error']}: {message['message']}"))
            else:
                reply.set_result(message["result"])


class Tab:
    """One tab."""

    def __init__(self, firefox: Firefox, context: str) -> None:
        self._firefox, self._context = firefox, context

    async def goto(self, url: str) -> None:
        """Load ``url``."""
        await self._firefox.command("browsingContext.navigate", context=self._context, url=url, wait="complete")

    async def add_init_script(self, script: str) -> None:
        """Run ``script`` in each page that is loaded from now on, before the page's own scripts."""
        await self._firefox.command(
            "script.addPreloadScript", functionDeclaration=f"() => {{ {script} }}", contexts=[self._context]
        )

    async def run(self, script: str) -> None:
        """Run ``script``."""
        result = await self._firefox.command(
            "script.evaluate", expression=script, target={"context": self._context}, awaitPromise=True
        )
        _raise_for(result)

    async def call(self, function: str, *arguments: Any) -> Any:
        """Call ``function`` with ``arguments``, and return its awaited result. All pass as JSON."""
        return await self._call_function(
            f"async (values) => JSON.stringify((await ({function})(...JSON.parse(values))) ?? null)",
            [{"type": "string", "value": json.dumps(arguments)}],
        )

    async def expose(self, name: str, callback: Callable[[str], None]) -> None:
        """Define the function ``name`` in the page. Called with an object, it calls ``callback`` with its JSON."""
        channel = f"{self._context} {name}"
        self._firefox.exposed[channel] = callback
        await self._call_function(
            f"(send) => {{ globalThis.{name} = (value) => send(JSON.stringify(value)); return 'null'; }}",
            [{"type": "channel", "value": {"channel": channel}}],
        )

    async def _call_function(self, declaration: str, arguments: list[dict[str, Any]]) -> Any:
        result = await self._firefox.command(
            "script.callFunction",
            functionDeclaration=declaration,
            arguments=arguments,
            target={"context": self._context},
            awaitPromise=True,
        )
        _raise_for(result)
        return json.loads(result["result"]["value"])


def _raise_for(result: dict[str, Any]) -> None:
    if result["type"] == "exception":
        raise ScriptError(result["exceptionDetails"]["text"])


@contextlib.asynccontextmanager
async def launch() -> AsyncIterator[Firefox]:
    """Start Firefox with a profile of its own."""
    executable = shutil.which("firefox-esr") or shutil.which("firefox")
    assert executable, "these tests need Debian's package firefox-esr"
    with tempfile.TemporaryDirectory(prefix="firefox-", ignore_cleanup_errors=True) as folder:
        async with _sound_server(Path(folder)) as environment:
            lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in PREFERENCES.items()]
            (Path(folder) / "user.js").write_text("".join(lines))
            process = await asyncio.create_subprocess_exec(
                *[executable, "--headless", "--no-remote", "--profile", folder, "--remote-debugging-port", "0"],
                env=os.environ | environment,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                async with _session(process) as firefox:
                    yield firefox
            finally:
                with contextlib.suppress(ProcessLookupError):
                    process.terminate()
                await process.wait()


@contextlib.asynccontextmanager
async def _sound_server(folder: Path) -> AsyncIterator[dict[str, str]]:
    """Run PulseAudio with a speaker that discards everything. Yields the variables with which clients find it."""
    server = SoundServer(folder, "module-null-sink rate=48000")
    server.start()
    try:
        await until((folder / "native").exists)
        yield {"PULSE_SERVER": f"unix:{folder}/native"}
    finally:
        server.kill()


@contextlib.asynccontextmanager
async def _session(process: asyncio.subprocess.Process) -> AsyncIterator[Firefox]:
    assert process.stderr is not None
    async with asyncio.timeout(STARTING):
        address = await _address(process.stderr)
    draining = asyncio.create_task(process.stderr.read())
    async with connect(f"{address}/session", max_size=None, proxy=None) as socket:
        firefox = Firefox(socket)
        reading = asyncio.create_task(firefox.read())
        await firefox.command("session.new", capabilities={})
        await firefox.command("session.subscribe", events=["script.message"])
        yield firefox
    await reading
    draining.cancel()


async def _address(stderr: asyncio.StreamReader) -> str:
    lines = []
    while line := await stderr.readline():
        lines.append(line.decode())
        if found := re.search(r"WebDriver BiDi listening on (ws://\S+)", lines[-1]):
            return found[1]
    raise AssertionError(f"Firefox did not start: {''.join(lines)}")
