"""What systemd is told of this process (sd_notify(3)): that it is ready, what it does, that it is alive.

Nothing is sent, and nothing costs anything, where nobody asked: without ``NOTIFY_SOCKET``. Three assignments in a
datagram need no library.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from contextlib import suppress
from typing import Final

_PATIENCE: Final = 1.0
"""Seconds that a full socket of the supervisor's may hold us up: it holds hundreds of datagrams."""


def ready(status: str) -> None:
    """Started, or done with a reload; ``status`` is what ``systemctl status`` shows."""
    _tell("READY=1", f"STATUS={_line(status)}")


def status(text: str) -> None:
    """What is being done now."""
    _tell(f"STATUS={_line(text)}")


def reloading() -> None:
    """The configuration is being read again; ``ready`` follows."""
    _tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def stopping() -> None:
    """On the way out."""
    _tell("STOPPING=1")


def keep_alive(loop: asyncio.AbstractEventLoop) -> None:
    """Say from ``loop`` that it turns, twice in each ``WATCHDOG_USEC``, as sd_watchdog_enabled(3) has it, for as long
    as it does."""
    every = _half_of_watchdog()
    if every is None:
        return

    def beat() -> None:
        _tell("WATCHDOG=1")
        loop.call_later(every, beat)

    beat()


def _half_of_watchdog() -> float | None:
    """Seconds; None where nobody waits for a sign of life from this very process."""
    with suppress(ValueError):
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        for_us = int(os.environ.get("WATCHDOG_PID", os.getpid())) == os.getpid()
        if microseconds > 0 and for_us:
            return microseconds / 2e6
    return None


def _tell(*assignments: str) -> None:
    where = os.environ.get("NOTIFY_SOCKET", "")
    if not where.startswith(("/", "@")):
        return
    address = "\0" + where[1:] if where[0] == "@" else where
    # a supervisor that is gone or does not listen is no reason to end
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.settimeout(_PATIENCE)
        out.sendto("\n".join(assignments).encode(), address)


def _line(text: str) -> str:
    return " ".join(text.split())
