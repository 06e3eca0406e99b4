"""``peer call ID...``: call peers, and end when the last call ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from .. import exit_codes as exits
from ..command import Command
from ..options import (
    duration_option,
    file_options,
    join_options,
    media_options,
    output_options,
    sink_options,
    timeout_option,
)
from ..param_types import peer_id
from ..settings import Settings

if TYPE_CHECKING:
    from ...agent import Agent
    from ...node.sinks import SinkPaths
    from ..output import Output


@click.command("call", cls=Command)
@click.argument("ids", nargs=-1, required=True, type=peer_id, metavar="ID...")
@timeout_option("Time limit for joining and connecting.")
@duration_option("Hang up this long after connecting.  [default: wait for the remote]")
@join_options
@media_options(video="auto", audio="auto")
@sink_options(speaker="auto")
@file_options
@output_options
def command(ids: tuple[str, ...], **params: Any) -> int:
    """Call these peers; end when the last call ends.

    Waits until --timeout for a peer that is not in the room yet. The exit code is 0 when either side hangs up.

    \b
    peer call door                                  send and receive
    peer call door --video none --audio none        receive only
    peer call door --duration 10s --record door.mkv --no-show
    peer call door gate --json | jq .event
    """
    from ..entry import run
    from ..output import Output

    settings = Settings.read(params)
    out = Output(as_json=settings.as_json, detail=settings.verbose > 0)
    return run(lambda: _call(tuple(dict.fromkeys(ids)), settings, out), out)


async def _call(ids: tuple[str, ...], settings: Settings, out: Output) -> int:
    from ...node.sinks import SinkPaths
    from ..joining import joined

    paths = SinkPaths(settings.record, settings.snapshot, several=len(ids) > 1, segment=settings.segment)
    paths.check()
    async with joined(settings, join_timeout=settings.timeout, on_event=out.event) as agent:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_one(agent, peer, settings, paths, out), name=f"call {peer}") for peer in ids]
        return exits.combined(task.result() for task in tasks)


async def _one(agent: Agent, peer: str, settings: Settings, paths: SinkPaths, out: Output) -> int:
    from ...errors import CallFailed
    from ..joining import follow, report

    loop = asyncio.get_running_loop()
    deadline = loop.time() + settings.timeout
    codecs = settings.media.video_codec
    try:
        await agent.wait_for(peer, settings.timeout)
        call = agent.call(peer, timeout=max(0.1, deadline - loop.time()))
        await call.connected()
    except CallFailed as error:
        if error.reason == "declined" and not error.detail and codecs is not None and len(codecs) == 1:
            error.detail = f"perhaps because this peer accepts only {codecs[0]}; try --video-codec vp8,h264"
        report(out, error, peer)
        return exits.for_error(error)
    return await follow(agent, call, paths, out, settings.duration)
