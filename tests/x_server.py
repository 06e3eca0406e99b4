"""Xvfb, an X server without a screen, for one test. It has no window manager."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class XServer:
    """A running X server. ``name`` is the value for DISPLAY."""

    name: str
    _process: subprocess.Popen[bytes]

    def kill(self) -> None:
        """Kill the server, as if it had crashed."""
        self._process.kill()


@contextlib.contextmanager
def running(size: str = "1280x800", *options: str) -> Iterator[XServer]:
    """Run an X server with a screen of ``size``, WIDTHxHEIGHT in pixels, and yield it once it accepts clients.

    ``-noreset``: by default an X server resets when its last client disconnects (Xserver(1)). It then loses its state
    and rejects new clients for a moment. Every run of xdotool is such a client: without the option one peer in ten
    found no X server and showed no windows.
    """
    read_end, write_end = os.pipe()
    command = ["Xvfb", "-displayfd", str(write_end), "-screen", "0", f"{size}x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen([*command, *options], pass_fds=[write_end], stderr=subprocess.DEVNULL)
    try:
        os.close(write_end)
        with os.fdopen(read_end) as display:
            number = display.readline().strip()
        assert number, "Xvfb did not start"
        yield XServer(f":{number}", server)
    finally:
        server.terminate()  # on SIGTERM it removes its lock and its socket
        server.wait()
