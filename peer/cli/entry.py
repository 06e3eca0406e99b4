"""Start and end of every command: errors become exit codes, and signals cancel it.

The first SIGINT, SIGTERM or SIGHUP cancels the command, which hangs up, closes recordings and leaves. The second one
exits immediately. The exit code is 130 for all (docs/decisions/0003-exit-codes.md). ``nohup`` keeps SIGHUP ignored.
"""

from __future__ import annotations

import asyncio
import errno
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
from .output import Output, OutputClosed, pipe_descriptor
from .root import cli

Body = Callable[[], Awaitable[int]]

_log = logging.getLogger(__name__)

_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Errors of a standard output that is a file on a full or broken disk."""

_MAX_MISTAKES = 20
"""Maximum mistakes reported of one file. A file of another kind has one in each line."""


def start(args: Sequence[str] | None = None) -> int:
    """Run the command line ``args``, by default that of the process, and return the exit code."""
    for number in _termination_signals():
        signal.signal(number, _interrupt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # for ids and paths outside the locale's encoding
            stream.reconfigure(errors="backslashreplace")
    if _json_log_requested(sys.argv[1:] if args is None else args):
        logs.configure("json", 0)
    try:
        result = cli.main(args=None if args is None else list(args), prog_name="peer", standalone_mode=False)
        sys.stdout.flush()
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
    except OutputClosed:
        return exits.INTERRUPTED
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        return _output_failed(error)


def _output_failed(error: OSError) -> int:
    """Report that standard output cannot be written, and keep Python from trying it again on exit."""
    with suppress(OSError):
        click.echo(f"peer: cannot write to standard output: {error.strerror}", err=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return exits.FAILED


def _termination_signals() -> tuple[signal.Signals, ...]:
    """SIGTERM, and SIGHUP (a closed terminal) unless it is ignored, as under ``nohup``."""
    hung_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
    return (signal.SIGTERM, *hung_up)


def _json_log_requested(args: Sequence[str]) -> bool:
    """Whether ``--log-format json`` is set; looked up before click parses the options and may raise errors."""
    flag = "--log-format=json" in args or ("--log-format", "json") in pairwise(args)
    return flag or os.environ.get("PEER_LOG_FORMAT") == "json"


def fail(error: PeerError, out: Output | None = None) -> int:
    """Report the error that ended the command, with the mistakes found together with it: on standard error, and with
    ``--json`` as events, too."""
    mistakes = (error, *error.others)
    for mistake in mistakes[:_MAX_MISTAKES]:
        _report(mistake, out)
    if len(mistakes) > _MAX_MISTAKES:
        click.echo(f"peer: {len(mistakes) - _MAX_MISTAKES} more mistakes are not shown", err=True)
    return exits.for_error(error)


def _report(error: PeerError, out: Output | None) -> None:
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


def run(body: Body, out: Output, *, on_sigterm: int = exits.INTERRUPTED) -> int:
    """Run ``body`` in an event loop and return its exit code.

    A ``PeerError`` is reported and mapped to its exit code. SIGINT returns 130, and SIGTERM ``on_sigterm``.
    """
    try:
        with out.in_background():
            try:
                return asyncio.run(_with_signals(body, out, on_sigterm))
            except PeerError as error:
                return fail(error, out)
            except BaseExceptionGroup as group:
                if (peer_error := _peer_error(group)) is None:
                    raise
                return fail(peer_error, out)
    except OutputClosed:
        return exits.INTERRUPTED


def _peer_error(group: BaseExceptionGroup[BaseException]) -> PeerError | None:
    """The first error in ``group`` if all are ``PeerError``; otherwise there is a bug, and the result is ``None``."""
    leaf: BaseException | None
    leaf, rest = group.split(PeerError)
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return leaf if rest is None and isinstance(leaf, PeerError) else None


async def _with_signals(body: Body, out: Output, on_sigterm: int) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    received: list[int] = []
    output_closed = False

    def on_signal(number: int) -> None:
        if received:
            sys.stderr.flush()
            os._exit(exits.INTERRUPTED)
        received.append(number)
        systemd.stopping()
        task.cancel()

    def stop() -> None:
        nonlocal output_closed
        output_closed = True
        task.cancel()

    def on_output_closed() -> None:  # in the thread of the writer
        with suppress(RuntimeError):  # the loop is closed, so the command has already ended
            loop.call_soon_threadsafe(stop)

    out.on_closed(on_output_closed)
    pipe = pipe_descriptor()
    if pipe is not None:  # nothing can be read from it, so it becomes readable when its reader closes it

        def on_pipe_closed() -> None:
            loop.remove_reader(pipe)
            stop()

        loop.add_reader(pipe, on_pipe_closed)
    for number in (signal.SIGINT, *_termination_signals()):
        loop.add_signal_handler(number, on_signal, number)
    systemd.start_watchdog(loop)
    try:
        return await body()
    except (asyncio.CancelledError, PeerError, BaseExceptionGroup) as error:
        if not (received or output_closed) or (isinstance(error, BaseExceptionGroup) and _peer_error(error) is None):
            raise
        return exits.INTERRUPTED if signal.SIGINT in received or output_closed else on_sigterm


def _interrupt(_number: int, _frame: FrameType | None) -> Any:
    raise KeyboardInterrupt
