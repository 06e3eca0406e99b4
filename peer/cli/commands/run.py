"""``peer run``: stay joined, answer calls, and with ``--call`` make them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NoReturn

import click

from ...events import Calling, Connected, Ended, Event, Incoming, Joined, PeerJoined, PeerLeft, ServerLost
from ...node import systemd
from .. import exit_codes as exits
from ..command import Command, option
from ..options import (
    RELAY,
    duration_option,
    file_options,
    join_options,
    media_options,
    output_options,
    sink_options,
)
from ..param_types import peer_id
from ..settings import Settings

if TYPE_CHECKING:
    from ...agent import Agent
    from ...node.redial import Redial
    from ...node.sinks import SinkPaths
    from ..output import Output


@click.command("run", cls=Command)
@click.argument("ids", nargs=-1, type=peer_id, metavar="[ID...]")
@option(
    "--call",
    "called",
    multiple=True,
    type=peer_id,
    metavar="all|ID...",
    group=RELAY,
    help="Keep calling these peers while they are in the room; several ids may follow.",
)
@duration_option("Leave after this time.  [default: never]")
@join_options
@media_options(video="auto", audio="auto")
@sink_options(speaker="auto")
@file_options
@output_options
def command(ids: tuple[str, ...], called: tuple[str, ...], **params: Any) -> int:
    """Stay joined and answer calls: a camera node.

    If the relay is unreachable, the node retries forever, and connected calls continue. With --call, it calls a peer
    again after a lost call, but not after a hang-up by either side, until the peer has left the room and come back.

    \b
    peer run --id door                              a camera that answers calls
    peer run --id lobby --call door gate            a monitor that shows two cameras
    peer run --id guard --call all --video none --record '{peer}-{time}.mkv' --segment 10m
    """
    from ..entry import run
    from ..output import Output

    if ids and not called:
        raise click.UsageError(f"ids need --call; write: peer run --call {' '.join(ids)}")
    settings = Settings.read(params)
    out = Output(as_json=settings.as_json, detail=settings.verbose > 0)
    return run(lambda: _run((*called, *ids), settings, out), out)


async def _run(called: tuple[str, ...], settings: Settings, out: Output) -> int:
    from ...call_control import MAX_CALLS
    from ...errors import ServerUnreachable
    from ...node.redial import Redial
    from ...node.sinks import SinkPaths
    from ..joining import joined

    paths = SinkPaths(settings.record, settings.snapshot, several=True, segment=settings.segment)
    paths.check()
    policy = Redial(None if "all" in called else called, MAX_CALLS)
    queue: asyncio.Queue[Event] = asyncio.Queue()
    ever_joined = False

    def on_event(event: Event) -> None:
        nonlocal ever_joined
        out.event(event)
        if isinstance(event, Joined):
            ever_joined = True
            systemd.status(f"joined as {event.id}")
        elif isinstance(event, ServerLost):
            systemd.status("connection to the relay lost; calls continue")
        queue.put_nowait(event)  # stays short: _run_calls takes each event at once, and never waits for a call

    systemd.ready("connecting to the relay")  # before joining: the relay may be unreachable for days
    try:
        async with asyncio.timeout(settings.duration) as limit:
            async with joined(settings, join_timeout=None, on_event=on_event, unattended=True) as agent:
                await _run_calls(agent, queue, policy, paths, out)
    except TimeoutError:
        if settings.duration is None or not limit.expired():
            raise
        if not ever_joined:
            why = f"not joined within {settings.duration:g} s"
            raise ServerUnreachable(settings.relay.server, why) from None
    return exits.DONE


async def _run_calls(
    agent: Agent, queue: asyncio.Queue[Event], policy: Redial, paths: SinkPaths, out: Output
) -> NoReturn:
    """Run every connected call, and make the calls that ``policy`` asks for."""
    from ..joining import run_call

    clock = asyncio.get_running_loop().time
    async with asyncio.TaskGroup() as group:
        while True:
            try:
                async with asyncio.timeout_at(policy.deadline):
                    event = await queue.get()
            except TimeoutError:
                for peer in policy.due(clock()):
                    agent.call(peer)
                continue
            _inform(policy, event, clock())
            if isinstance(event, Connected) and (call := agent.calls.get(event.peer)) is not None:
                group.create_task(run_call(call, paths, out), name=f"call {event.peer}")


def _inform(policy: Redial, event: Event, now: float) -> None:
    match event:
        case Joined(peers=peers):
            policy.room_joined(peers, now)
        case PeerJoined(peer=peer):
            policy.peer_joined(peer, now)
        case PeerLeft(peer=peer):
            policy.peer_left(peer)
        case Calling(peer=peer) | Incoming(peer=peer):
            policy.call_started(peer)
        case Connected(peer=peer):
            policy.call_connected(peer, now)
        case Ended(peer=peer, reason=reason):
            policy.call_ended(peer, reason, now)
