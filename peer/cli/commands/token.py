"""``peer token``: a signed token, for a relay with ``--jwt-secret-file`` or ``--jwt-key``."""

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
@option("--jwt-secret-file", type=path, metavar="FILE", help="File with the secret that the relay also has (HS256).")
@option("--jwt-key", type=path, metavar="FILE", help="Private key in PEM format; the relay has its public key.")
@option(
    "--room",
    type=any_text,
    default="",
    metavar="ROOM",
    help="Room that the token is valid for.  [default: the room without a name]",
)
@option("--id", "peer_id", type=any_text, required=True, metavar="ID", help="Id that the token is valid for.")
@option(
    "--expires",
    type=duration,
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long the token can be used to join.",
)
@output_options
def command(room: str, peer_id: str, expires: float, **params: Any) -> int:
    """Make a signed token for a relay that requires one.

    In --room and --id, * matches any number of characters. A peer that has joined stays when the token expires.

    \b
    peer token --jwt-secret-file relay.secret --id door --expires 12h
    peer token --jwt-key relay.pem --room attic --id 'cam-*'
    """
    from ..output import Output

    settings = Settings.read(params)
    secret, key = params["jwt_secret_file"], params["jwt_key"]
    if (secret is None) == (key is None):
        raise click.UsageError("a token needs a key: add either --jwt-secret-file FILE or --jwt-key FILE")
    from server.admission.jwt_tokens import Key, sign

    out = Output(as_json=settings.as_json)
    now = time.time()
    token = sign(
        Key.secret(secret) if key is None else Key.private(key), room=room, id=peer_id, lifetime=expires, now=now
    )
    out.object(
        {
            "event": "token",
            "time": round(now, 3),
            "token": token,
            "room": room,
            "id": peer_id,
            "expires": int(now + expires),
        }
    )
    out.text(token)
    return exits.DONE
