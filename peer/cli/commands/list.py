"""``peer list``"""

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
from ..options import joining, output_options
from ..param_types import duration
from ..settings import Settings

if TYPE_CHECKING:
    from ...signaling.client import SignalingClient, SignalingEvent
    from ...signaling.diagnosis import Diagnosis
    from ..output import Output


@click.command("list", cls=Command)
@option("--watch", is_flag=True, help="Go on, and tell who comes and goes.")
@option("--timeout", type=duration, default="15s", show_default=True, metavar="TIME", help="Until joined.")
@joining("list-… and a random part")
@output_options
def command(watch: bool, **params: Any) -> int:
    """Show who is in the room: one id a line.

    To look into a room one has to join it: the others see a peer of a throw-away id come and go. Calls to it are
    declined. A signed token must be for that id: peer token --id 'list-*'.

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
    from ...signaling.client import Disconnected, Joined, MessageReceived, Rejected, SignalingClient, tls_context

    own_id = settings.relay.id or f"list-{secrets.token_hex(4)}"
    inbox: asyncio.Queue[SignalingEvent] = asyncio.Queue()
    join = messages.Join(own_id, settings.relay.room, settings.relay.token)
    signaling = SignalingClient(settings.relay.server, join, inbox.put_nowait, tls=tls_context(settings.relay.cacert))
    diagnosis: Diagnosis | None = None
    joined = up = False
    put_off: tuple[str, str] | None = None
    async with asyncio.TaskGroup() as group:
        runner = group.create_task(signaling.run(), name="signaling")
        try:
            async with asyncio.timeout(settings.timeout) as limit:
                while watch or not joined:
                    match await inbox.get():
                        case Joined(peers=room):
                            limit.reschedule(None)
                            if joined:
                                out.object(events.ServerBack().to_json())
                            joined = up = True
                            _show(out, events.Joined(id=own_id, peers=room.peers), watch)
                            if not room.peers and not settings.as_json and not settings.quiet:
                                click.echo("nobody else is here", err=True)
                        case Disconnected(diagnosis=why, rejection=put_off):
                            diagnosis = why
                            if up:  # each further try in vain is no news
                                out.event(events.ServerLost())
                                up = False
                            elif not joined and why.permanent:
                                raise ServerUnreachable(settings.relay.server, why.why, why.hint)
                        case Rejected(code=code, message=message):
                            raise JoinRefused(settings.relay.server, code, message, _hint(code, settings))
                        case MessageReceived(message=received):
                            _tell(received, own_id, signaling, out)
        except TimeoutError:
            if put_off is not None:
                raise JoinRefused(settings.relay.server, *put_off) from None
            diagnosis = diagnosis or signaling.timeout_diagnosis
            raise ServerUnreachable(settings.relay.server, diagnosis.why, diagnosis.hint) from None
        runner.cancel()
    return exits.DONE


def _hint(code: str, settings: Settings) -> str | None:
    """What to try when a signed token (three parts, RFC 7515) was refused for the throw-away id."""
    signed = settings.relay.token is not None and settings.relay.token.count(".") == 2
    if code != "unauthorized" or not signed or settings.relay.id is not None:
        return None
    return "`peer list` joins as list-…: make a token for that (peer token --id 'list-*'), or write its id by --id"


def _show(out: Output, joined: events.Joined, watch: bool) -> None:
    out.object(joined.to_json())
    for peer in joined.peers:
        out.text(f"= {peer}" if watch else peer)


def _tell(message: messages.Message, own_id: str, signaling: SignalingClient, out: Output) -> None:
    match message:
        case messages.PeerJoined(peer):
            out.object(events.PeerJoined(peer=peer).to_json())
            out.text(f"+ {peer}")
        case messages.PeerLeft(peer):
            out.object(events.PeerLeft(peer=peer).to_json())
            out.text(f"- {peer}")
        case messages.Offer(from_=caller):
            signaling.send(messages.HangUp(own_id, caller, "declined"))
