"""The agent of a command with its events, and the course of a connected call."""

from __future__ import annotations

import asyncio
import contextlib
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
    from ..node.sinks import SinkPaths

_log = logging.getLogger(__name__)

_CLOSE_TIMEOUT: Final = 5.0
"""Maximum wait for the files of an interrupted call, in seconds. Then the recorder is cancelled, and takes at most 20
more."""


RESTART_TIMEOUT: Final = 10.0
"""Maximum time until a restarted remote calls again, in seconds. It has joined, and may have to open a camera."""


@asynccontextmanager
async def joined(
    settings: Settings,
    *,
    join_timeout: float | None,
    on_event: Callable[[events.Event], None],
    unattended: bool = False,
) -> AsyncIterator[Agent]:
    """An agent that has joined the room. ``on_event`` gets all its events, including those of leaving. An
    ``unattended`` one joins although a device does not work.

    Raises:
        ServerUnreachable, JoinRefused, MediaError: the agent could not join, or the relay ended its membership.
    """
    from ..agent import Agent

    with identity.load(settings.relay.id) as own:
        relay = replace(settings.relay, id=own.id, key=own.key_for(settings.relay.server), join_timeout=join_timeout)
        agent = Agent.from_options(relay, settings.media, unattended=unattended)
        stream = agent.events()
        async with asyncio.TaskGroup() as group:
            printer = group.create_task(_pass_on(stream, on_event), name="events")
            async with agent, asyncio.TaskGroup() as watch:
                watcher = watch.create_task(agent.closed(), name="closed")
                yield agent
                watcher.cancel()
            await printer


async def _pass_on(stream: AsyncIterator[events.Event], on_event: Callable[[events.Event], None]) -> None:
    async for event in stream:
        on_event(event)


async def follow(agent: Agent, call: Call, paths: SinkPaths, out: Output, duration: float | None = None) -> int:
    """Run a connected call for at most ``duration`` seconds and return the exit code.

    If the remote calls again, also after a restart, continue with that call.
    """
    until = None if duration is None else asyncio.get_running_loop().time() + duration
    failed: list[int] = []
    while True:
        reason = await run_call(call, paths, out, until, failed)
        successor = await _successor(agent, call, reason)
        if successor is None:
            return exits.combined([exits.for_reason(reason, connected=True), *failed])
        call = successor
        try:
            await call.connected()
        except CallFailed as error:
            return exits.combined([exits.for_reason(error.reason, connected=True), *failed])


async def _successor(agent: Agent, ended: Call, reason: events.Reason) -> Call | None:
    """Return the call that continues an ended one, if the remote makes one in time."""
    if reason == "peer-left" and ended.peer in agent.peers:  # restarted: another process has its seat
        with agent.events() as stream, contextlib.suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(RESTART_TIMEOUT):
                while ended.peer not in agent.calls:
                    await anext(stream)
    elif reason != "replaced":
        return None
    return agent.calls.get(ended.peer)


async def run_call(
    call: Call, paths: SinkPaths, out: Output, until: float | None = None, failed: list[int] | None = None
) -> events.Reason:
    """Record a connected call and take its snapshot, hang up at ``until`` (loop time), and return why it ended.

    A recording or snapshot that fails does not end the call; its exit code is added to ``failed``.
    """
    peer, failures = call.peer, [] if failed is None else failed
    async with asyncio.TaskGroup() as group:
        sinks = []
        if paths.recorded:
            record = call.record if paths.segment is None else partial(call.record, segment=paths.segment)
            work = _sink(record, paths.recording, peer, out, failures)
            sinks.append(group.create_task(work, name=f"record {peer}"))
        if paths.snapshots:
            work = _sink(call.snapshot, paths.snapshot, peer, out, failures)
            sinks.append(group.create_task(work, name=f"snapshot {peer}"))
        try:
            async with asyncio.timeout_at(until):
                return await call.ended()
        except TimeoutError:
            await call.hang_up()
            return await call.ended()
        except asyncio.CancelledError:  # a signal: hanging up closes the files and reports them
            await call.hang_up("shutdown")
            if sinks:
                await asyncio.wait(sinks, timeout=_CLOSE_TIMEOUT)
            raise


async def _sink(
    save: Callable[[str], Awaitable[object]],
    path_for: Callable[[str], str],
    peer: str,
    out: Output,
    failed: list[int],
) -> None:
    """``save`` the call with ``peer`` to a path from ``path_for``, which runs in a thread: the disk may hang."""
    from ..media.threads import in_thread

    try:
        await save(await in_thread(f"a file for {peer}", lambda: path_for(peer)))
    except CallFailed as error:  # the call ended before any media arrived
        _log.warning("%s: nothing was saved: %s", peer, error)
    except PeerError as error:
        report(out, error, peer, path=error.what if isinstance(error, MediaError) else None)
        failed.append(exits.for_error(error))


def report(out: Output, error: PeerError, peer: str, path: str | None = None) -> None:
    """Report an error of the call with ``peer``: in the log, and with ``--json`` as an ``error`` event."""
    if out.as_json:
        out.event(events.Error(code=exits.event_code(error), message=str(error), peer=peer, path=path))
    _log.error("%s", error)
