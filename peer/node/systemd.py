"""Notifications to systemd (sd_notify(3)): ready, reloading, stopping, a status line, and watchdog pings.

Without ``NOTIFY_SOCKET`` in the environment, all functions do nothing. A notification is one datagram with a few
assignments, so no library is needed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import Final

_SEND_TIMEOUT: Final = 1.0
"""Maximum time to block on a full socket, in seconds. It holds hundreds of datagrams, so it is rarely full."""


def ready(status: str) -> None:
    """Report the end of startup or of a reload; ``systemctl status`` shows ``status``."""
    _notify("READY=1", f"STATUS={_one_line(status)}")


def status(text: str) -> None:
    """Report what the service does now; ``systemctl status`` shows ``text``."""
    _notify(f"STATUS={_one_line(text)}")


def reloading() -> None:
    """Report the start of a reload; ``ready`` reports its end."""
    _notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """Report the start of the shutdown."""
    _notify("STOPPING=1")


def start_watchdog(loop: asyncio.AbstractEventLoop) -> None:
    """Ping the watchdog from ``loop`` while it runs, twice per ``WATCHDOG_USEC`` as sd_watchdog_enabled(3) says."""
    interval = _watchdog_interval()
    if interval is None:
        return

    def ping() -> None:
        _notify("WATCHDOG=1")
        loop.call_later(interval, ping)

    ping()


def _watchdog_interval() -> float | None:
    """Half of ``WATCHDOG_USEC``, in seconds; ``None`` if it is unset or meant for another process."""
    with suppress(ValueError):
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        own = int(os.environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
        if microseconds > 0 and own:
            return microseconds / 2e6
    return None


def _notify(*assignments: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return
    address = "\0" + path[1:] if path[0] == "@" else path  # @: the abstract namespace, unix(7)
    # The service continues if its supervisor is gone or does not read.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify_socket:
        notify_socket.settimeout(_SEND_TIMEOUT)
        notify_socket.sendto("\n".join(assignments).encode(), address)


def _one_line(text: str) -> str:
    return " ".join(text.split())
