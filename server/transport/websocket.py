"""websockets' sans-I/O protocol as a connection uses it: without compression, limits or frame logging."""

from __future__ import annotations

import logging
from typing import Final

from websockets.protocol import OPEN, SERVER, Protocol
from websockets.server import ServerProtocol


class _WarningsOnly(logging.LoggerAdapter[logging.Logger]):
    """At DEBUG, websockets logs whole frames, and a join contains a token and a key. Its INFO lines repeat ours."""

    def isEnabledFor(self, level: int) -> bool:
        return level >= logging.WARNING and super().isEnabledFor(level)


_LOG: Final = _WarningsOnly(logging.getLogger("server.websockets"), {})


def handshake() -> ServerProtocol:
    """Return a protocol that reads an opening handshake.

    Origins are checked by the relay. There is no compression: presence and SDP are small, and an uncompressed frame
    can be shared by all recipients.
    """
    return ServerProtocol(origins=None, extensions=None, max_size=None, logger=_LOG)


def opened() -> Protocol:
    """Return a protocol whose handshake is complete."""
    return Protocol(SERVER, state=OPEN, max_size=None, logger=_LOG)


def release(ws: Protocol) -> None:
    """Break the reference cycles of ``ws`` through its parser and its errors.

    It is then freed at once instead of by the garbage collector, which stops the relay while it looks at all objects.
    Only a handshake that websockets rejects is left to the collector.
    """
    vars(ws).clear()
