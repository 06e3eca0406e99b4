"""``peer list``: the peers in the room, once or as they come and go."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Any

import click

from ... import events
from ...errors import JoinRefused, ServerUnreachable
from ...signaling import messages
from .. import exit_codes as exits
from ..command import Command, option
from ..options import joining, output_options, timeout_option
from ..settings import Settings

if TYPE_CHECKING:
    from ...signaling.client import SignalingClient, SignalingEvent
    from ...signaling.diagnosis import Diagnosis
    from ..output import Output


@click.command("list", cls=Command)
@option("--watch", is_flag=True, help="Keep listing peers that join and leave.")
@timeout_option("Time limit for joining.")
@joining("list- and a random part")
@output_options
def command(watch: bool, **params: Any) -> int:
    """List the peers in the room, one id per line.

    This command has to join the room, so the others see a peer with a temporary id join and leave. It declines calls.
    A signed token must be valid for that id: peer token --id 'list-*'.

    \b
    peer list
    peer list --watch --json
    """
    from ..entry import run
    from ..output import Output

    settings = Settings.read(params)
    out = Output(as_json=settings.as_json)
    return run(lambda: _list(settings, watch, out), out)


async def _list(settings: Settings, watch: bool, out: Output) -> int:
    from ...signaling.client import Disconnected, Joined, MessageReceived, Rejected, SignalingClient
    from ...signaling.relay_url import tls_context

    server = settings.relay.server
    own_id = settings.relay.id or f"list-{secrets.token_hex(4)}"
    queue: asyncio.Queue[SignalingEvent] = asyncio.Queue()
    join = messages.Join(own_id, settings.relay.room, settings.relay.token)
    signaling = SignalingClient(server, join, queue.put_nowait, tls=tls_context(settings.relay.cacert))
    diagnosis: Diagnosis | None = None
    last_rejection: tuple[str, str] | None = None
    ever_joined = joined = False
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(signaling.run(), name="signaling")
        try:
            async with asyncio.timeout(settings.timeout) as limit:
                while watch or not ever_joined:
                    match await queue.get():
                        case Joined(peers=room):
                            limit.reschedule(None)
                            if ever_joined:
                                out.object(events.ServerBack().to_json())
                            ever_joined = joined = True
                            _show(out, events.Joined(id=own_id, peers=room.peers), watch)
                            if not room.peers and not settings.as_json and not settings.quiet:
                                click.echo("no other peers in the room", err=True)
                        case Disconnected(diagnosis=diagnosis, rejection=last_rejection):
                            if joined:  # reported once, not for each failed retry
                                out.event(events.ServerLost(detail=diagnosis.why))
                                joined = False
                            elif not ever_joined and diagnosis.permanent:
                                raise ServerUnreachable(server, diagnosis.why, diagnosis.hint)
                        case Rejected(code=code, message=message):
                            raise JoinRefused(server, code, message, _hint(code, settings))
                        case MessageReceived(message=received):
                            _handle(received, own_id, signaling, out)
        except TimeoutError:
            if last_rejection is not None:
                raise JoinRefused(server, *last_rejection) from None
            diagnosis = diagnosis or signaling.timeout_diagnosis
            raise ServerUnreachable(server, diagnosis.why, diagnosis.hint) from None
        runner.cancel()
    return exits.DONE


def _hint(code: str, settings: Settings) -> str | None:
    """What to try if the relay rejected a signed token (three parts, RFC 7515) for the temporary id."""
    signed = settings.relay.token is not None and settings.relay.token.count(".") == 2
    if code != "unauthorized" or not signed or settings.relay.id is not None:
        return None
    return (
        "`peer list` joins as list-…: make a token for it (peer token --id 'list-*'), or use --id with the token's id"
    )


def _show(out: Output, joined: events.Joined, watch: bool) -> None:
    out.object(joined.to_json())
    for peer in joined.peers:
        out.text(f"= {peer}" if watch else peer)


def _handle(message: messages.Message, own_id: str, signaling: SignalingClient, out: Output) -> None:
    match message:
        case messages.PeerJoined(peer):
            out.object(events.PeerJoined(peer=peer).to_json())
            out.text(f"+ {peer}")
        case messages.PeerLeft(peer):
            out.object(events.PeerLeft(peer=peer).to_json())
            out.text(f"- {peer}")
        case messages.Offer(from_=caller):
            signaling.send(messages.HangUp(own_id, caller, "declined"))
