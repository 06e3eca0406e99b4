"""Debian's coturn, a TURN server, on loopback and a free port."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.waiting import until, until_listening

REALM = "test"


class Coturn:
    """A running coturn. It listens for UDP and TCP on ``port``, and for TLS on ``tls_port`` if it has a
    certificate."""

    def __init__(self, port: int, tls_port: int, log: Path) -> None:
        self.port = port
        self.tls_port = tls_port
        self._log = log

    @property
    def url(self) -> str:
        return f"turn:127.0.0.1:{self.port}"

    def allocations(self) -> list[str]:
        """Return the user names of all allocations so far, in order."""
        made = r"user <([^>]*)>: incoming packet ALLOCATE processed, success"
        return re.findall(made, self._log.read_text(errors="replace"))

    async def allocated(self, *users: str) -> None:
        """Wait until each of ``users`` has an allocation, because coturn writes its log late. A user is a whole user
        name, or its part after the expiry time."""
        await until(lambda: set(users) <= {name.rpartition(":")[2] for name in self.allocations()})


@asynccontextmanager
async def coturn(folder: Path, *options: str) -> AsyncIterator[Coturn]:
    """Run coturn. ``options`` define its users; ``folder`` holds its files."""
    assert shutil.which("turnserver"), "coturn is not installed"
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        port, tls_port = (probe.getsockname()[1] for probe in (one, two))
    log = folder / "turnserver.log"
    # RFC 5780 is disabled: it also needs the next port, and coturn waits silently while that is in use.
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("turnserver", "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1", f"--listening-port={port}"),
            *(f"--tls-listening-port={tls_port}", f"--realm={REALM}", "--no-dtls", "--no-rfc5780", "--no-cli"),
            *(
                "--verbose",
                "--allow-loopback-peers",
                f"--pidfile={folder}/pid",
                f"--userdb={folder}/db",
                "--log-file=stdout",
            ),
            *([] if any(option.startswith("--cert") for option in options) else ["--no-tls"]),
            *options,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )
    try:
        await until_listening(port)
        yield Coturn(port, tls_port, log)
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def coturn_with_secret(folder: Path, secret: str, *options: str) -> AsyncIterator[Coturn]:
    """Run coturn with credentials that are derived from ``secret``."""
    async with coturn(folder, "--use-auth-secret", f"--static-auth-secret={secret}", *options) as server:
        yield server
