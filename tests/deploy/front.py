"""A real nginx or Caddy in front of a relay, made of the example that the documentation shows, with other ports."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.waiting import until_listening

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "deploy"


def free_ports(count: int) -> list[int]:
    """Free ports of loopback."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def filled(text: str, others: dict[str, str]) -> str:
    """``text`` with what is different here; every one of ``others`` must be in it."""
    for old, new in others.items():
        assert old in text, f"the example has no {old!r}"
        text = text.replace(old, new)
    return text


@asynccontextmanager
async def program(*command: str, port: int, log: Path, env: dict[str, str] | None = None) -> AsyncIterator[int]:
    """``command`` as a child that listens on ``port``: its pid."""
    assert shutil.which(command[0]), f"{command[0]} is not installed"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=output, stderr=asyncio.subprocess.STDOUT, env=env
        )
    try:
        try:
            await until_listening(port)
        except TimeoutError:
            raise AssertionError(f"{command[0]} does not listen; see {log}") from None
        yield process.pid
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
