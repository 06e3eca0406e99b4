"""What every command shares: the border where errors become exit codes, and the signals.

The first SIGINT or SIGTERM cancels the command, which hangs up, closes recordings and leaves; the second one ends the
process at once. Both mean 130 (docs/decisions/0003-exit-codes.md).
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from types import FrameType
from typing import Any

import click

from ..errors import PeerError
from ..node import systemd
from . import exit_codes as exits
from . import logs
from .output import Output, ReaderGone
from .root import cli

Body = Callable[[], Awaitable[int]]

_log = logging.getLogger(__name__)


def start(args: Sequence[str] | None = None) -> int:
    """Run the command line ``args`` (``sys.argv`` without it) and return the exit code."""
    signal.signal(signal.SIGTERM, _early)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # an id or path that the locale cannot write is no reason to end
            stream.reconfigure(errors="backslashreplace")
    if _json_logs_are_wanted(sys.argv[1:] if args is None else args):
        logs.configure("json", 0)
    try:
        result = cli.main(args=None if args is None else list(args), prog_name="peer", standalone_mode=False)
        return result if isinstance(result, int) else exits.DONE
    except click.ClickException as error:
        if logs.are_json():
            _log.error("%s", error.format_message())
        else:
            error.show()
        return exits.USAGE
    except click.Abort:
        return exits.INTERRUPTED
    except PeerError as error:
        return fail(error)
    except ReaderGone:
        return exits.INTERRUPTED


def _json_logs_are_wanted(args: Sequence[str]) -> bool:
    """Whether ``--log-format json`` is given, read before click does, for the errors that click finds."""
    flag = "--log-format=json" in args or ("--log-format", "json") in pairwise(args)
    return flag or os.environ.get("PEER_LOG_FORMAT") == "json"


def fail(error: PeerError, out: Output | None = None) -> int:
    """Report what ended the command: on standard error, and with ``--json`` as an event on standard output too."""
    if out is not None:
        body = {
            "event": "error",
            "time": round(time.time(), 3),
            "code": exits.event_code(error),
            "message": str(error),
        }
        out.object(body)
    if logs.are_json():
        _log.error("%s", error)
    else:
        click.echo(f"peer: {error}", err=True)
    return exits.for_error(error)


def run(body: Body, out: Output, *, on_sigterm: int = exits.INTERRUPTED) -> int:
    """Run ``body`` in an event loop until it returns its exit code, fails, or a signal ends it."""
    try:
        with out.aside():
            try:
                return asyncio.run(_under_signals(body, out, on_sigterm))
            except PeerError as error:
                return fail(error, out)
            except BaseExceptionGroup as group:
                if (meant := _meant(group)) is None:
                    raise
                return fail(meant, out)
    except ReaderGone:
        return exits.INTERRUPTED


def _meant(group: BaseExceptionGroup[BaseException]) -> PeerError | None:
    """What ended a TaskGroup, when all in it was raised on purpose; ``None`` for a bug, which stays loud."""
    leaf: BaseException | None
    leaf, rest = group.split(PeerError)
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf if rest is None and isinstance(leaf, PeerError) else None


async def _under_signals(body: Body, out: Output, on_sigterm: int) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    received: list[int] = []
    gone = False

    def on_signal(number: int) -> None:
        if received:
            sys.stderr.flush()
            os._exit(exits.INTERRUPTED)
        received.append(number)
        systemd.stopping()
        task.cancel()

    def stop() -> None:
        nonlocal gone
        gone = True
        task.cancel()

    def on_gone() -> None:
        with suppress(RuntimeError):  # the loop is closed: it has ended already
            loop.call_soon_threadsafe(stop)

    out.when_gone(on_gone)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)
    systemd.keep_alive(loop)
    try:
        return await body()
    except (asyncio.CancelledError, PeerError, BaseExceptionGroup) as error:
        if not (received or gone) or (isinstance(error, BaseExceptionGroup) and _meant(error) is None):
            raise
        return on_sigterm if signal.SIGTERM in received else exits.INTERRUPTED


def _early(_number: int, _frame: FrameType | None) -> Any:
    raise KeyboardInterrupt
