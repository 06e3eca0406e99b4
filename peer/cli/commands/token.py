"""``peer token``"""

from __future__ import annotations

import time
from typing import Any

import click

from .. import exit_codes as exits
from ..command import Command, option
from ..options import output_options
from ..param_types import any_text, duration, path
from ..settings import Settings


@click.command("token", cls=Command)
@option("--jwt-secret-file", type=path, metavar="FILE", help="The secret that the relay has too (HS256).")
@option("--jwt-key", type=path, metavar="FILE", help="The private key, in PEM; the relay has the public one.")
@option("--room", type=any_text, default="", metavar="ROOM", help="Which room.  [default: the one without a name]")
@option("--id", "own_id", type=any_text, required=True, metavar="ID", help="Which id.")
@option("--expires", type=duration, default="1h", show_default=True, metavar="TIME", help="How long it lets in.")
@output_options
def command(room: str, own_id: str, expires: float, **params: Any) -> int:
    """Make a signed token that a relay lets peers in for. It runs with the same secret, or with the public key.

    In a room and an id * is any number of characters. Who has joined stays when the token expires.

    \b
    peer token --jwt-secret-file relay.secret --id door --expires 12h
    peer token --jwt-key relay.pem --room attic --id 'cam-*'
    """
    from ..output import Output

    settings = Settings.read(params)
    secret, key = params["jwt_secret_file"], params["jwt_key"]
    if (secret is None) == (key is None):
        raise click.UsageError("a token is signed: write one of --jwt-secret-file FILE and --jwt-key FILE")
    from server.admission.jwt_tokens import Key, sign

    out = Output(as_json=settings.as_json)
    now = time.time()
    token = sign(
        Key.secret(secret) if key is None else Key.private(key), room=room, id=own_id, lifetime=expires, now=now
    )
    out.object(
        {
            "event": "token",
            "time": round(now, 3),
            "token": token,
            "room": room,
            "id": own_id,
            "expires": int(now + expires),
        }
    )
    out.text(token)
    return exits.DONE
