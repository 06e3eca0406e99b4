"""An X server of a test's own, without a screen and without a window manager."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class XServer:
    """``name`` is what goes into DISPLAY."""

    name: str
    _process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """As when it crashes."""
        self._process.kill()


@contextlib.contextmanager
def running(size: str = "1280x800", *options: str) -> Iterator[XServer]:
    """One that accepts clients, with a screen of WIDTHxHEIGHT pixels.

    ``-noreset``: by default a server starts over when its last client leaves (Xserver(1)), turns away whoever comes
    meanwhile, and forgets all its state. Every run of xdotool is such a client: one peer in ten that came to show
    its windows beside it was refused, and did without.
    """
    ready, tell = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", "-displayfd", str(tell), "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset", *options],
        pass_fds=[tell],
        stderr=subprocess.DEVNULL,
    )
    try:
        os.close(tell)
        with os.fdopen(ready) as numbers:
            number = numbers.readline().strip()
        assert number, "Xvfb did not start"
        yield XServer(f":{number}", server)
    finally:
        server.terminate()  # it takes its lock and its socket with it
        server.wait()
