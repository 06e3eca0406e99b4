"""What ``call``, ``run`` and ``demo`` share: an agent made of the settings, its events, one call attended to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from .. import events
from ..errors import CallFailed, MediaError, PeerError
from ..signaling import identity
from . import exit_codes as exits
from .output import Output
from .settings import Settings

if TYPE_CHECKING:
    from ..agent import Agent
    from ..call import Call
    from ..node.sinks import Files

_log = logging.getLogger(__name__)

_CLOSING: Final = 5.0
"""Seconds for an interrupted call's files to be closed. The recorder, told to stop then, takes at most 20 more."""


@asynccontextmanager
async def joined(
    settings: Settings,
    *,
    join_timeout: float | None,
    on_event: Callable[[events.Event], None],
) -> AsyncIterator[Agent]:
    """An agent in the room, and every event of it given to ``on_event``, to the last one after it has left.

    Raises:
        ServerUnreachable, JoinRefused, MediaError: it could not join, or was thrown out.
    """
    from ..agent import Agent

    with identity.load(settings.relay.id) as who:
        relay = replace(settings.relay, id=who.id, key=who.key_for(settings.relay.server), join_timeout=join_timeout)
        agent = Agent.from_options(relay, settings.media)
        stream = agent.events()
        async with asyncio.TaskGroup() as group:
            printer = group.create_task(_each(stream, on_event), name="events")
            async with agent, asyncio.TaskGroup() as watch:
                watcher = watch.create_task(agent.closed(), name="closed")
                yield agent
                watcher.cancel()
            await printer


async def _each(stream: AsyncIterator[events.Event], on_event: Callable[[events.Event], None]) -> None:
    async for event in stream:
        on_event(event)


async def follow(agent: Agent, call: Call, files: Files, out: Output, duration: float | None = None) -> int:
    """See a connected call through to its end, at the latest after ``duration`` seconds; the exit code.

    A call that was replaced (the remote restarted) goes on in the new one.
    """
    until = None if duration is None else asyncio.get_running_loop().time() + duration
    failed: list[int] = []
    while True:
        reason = await attend(call, files, out, until, failed)
        following = agent.calls.get(call.peer) if reason == "replaced" else None
        if following is None:
            return exits.combined([exits.for_reason(reason, connected=True), *failed])
        call = following
        try:
            await call.connected()
        except CallFailed as error:
            return exits.combined([exits.for_reason(error.reason, connected=True), *failed])


async def attend(
    call: Call, files: Files, out: Output, until: float | None = None, failed: list[int] | None = None
) -> events.Reason:
    """Keep what is to be kept of a connected call, hang up at ``until`` (loop time), and tell why it ended.

    A recording or snapshot that fails ends no call; its exit code is added to ``failed``.
    """
    peer, failures = call.peer, [] if failed is None else failed
    async with asyncio.TaskGroup() as group:
        sinks = []
        if files.records:
            record = call.record if files.segment is None else partial(call.record, segment=files.segment)
            work = _sink(record, files.recording, peer, out, failures)
            sinks.append(group.create_task(work, name=f"record {peer}"))
        if files.pictures:
            work = _sink(call.snapshot, files.picture, peer, out, failures)
            sinks.append(group.create_task(work, name=f"snapshot {peer}"))
        try:
            async with asyncio.timeout_at(until):
                return await call.ended()
        except TimeoutError:
            await call.hang_up()
            return await call.ended()
        except asyncio.CancelledError:  # interrupted: the end of the call closes the files, and says so
            await call.hang_up("shutdown")
            if sinks:
                await asyncio.wait(sinks, timeout=_CLOSING)
            raise


async def _sink(
    keep: Callable[[str], Awaitable[object]], choose: Callable[[str], str], peer: str, out: Output, failed: list[int]
) -> None:
    """``keep`` something of the call in a file that ``choose`` names; that asks the disk, which may be stuck."""
    from ..media.threads import in_thread

    try:
        await keep(await in_thread(f"a file for {peer}", lambda: choose(peer)))
    except CallFailed as error:  # it ended before there was anything to keep
        _log.warning("%s: nothing was kept: %s", peer, error)
    except PeerError as error:
        report(out, error, peer, path=error.what if isinstance(error, MediaError) else None)
        failed.append(exits.for_error(error))


def report(out: Output, error: PeerError, peer: str, path: str | None = None) -> None:
    """Say what went wrong with ``peer``: for people on standard error, for programs as an ``error`` event."""
    if out.as_json:
        out.event(events.Error(code=exits.event_code(error), message=str(error), peer=peer, path=path))
    _log.error("%s", error)
