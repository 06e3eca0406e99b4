"""Errors of the relay. They hold facts; ``str()`` makes the sentence: what, where, what to try."""

from __future__ import annotations

import errno

from peer.errors import ConfigError, PeerError, ProtocolError


def token_required() -> ProtocolError:
    """The error for a join without a token, at a relay that asks for one."""
    return ProtocolError("unauthorized", "this relay wants a token")


class CannotListen(PeerError):
    """The relay could not bind ``host``:``port``, for its peers or its ``metrics``; ``cause`` is the reason."""

    def __init__(self, host: str, port: int, cause: OSError, *, metrics: bool = False) -> None:
        super().__init__(host, port, cause)
        self.metrics = metrics
        self.host = host
        self.port = port
        self.cause = cause

    def __str__(self) -> str:
        where = f"cannot listen on {self.host}:{self.port}" + (" for --metrics" if self.metrics else "")
        option, usual = ("--metrics", 9100) if self.metrics else ("--port", 8080)
        match self.cause.errno:
            case errno.EADDRINUSE:
                return f"{where}: the port is in use; is another relay running? try {option} 0 for a free one"
            case errno.EACCES:
                return f"{where}: not permitted; ports below 1024 are for root, try {option} {usual}"
            case errno.EADDRNOTAVAIL:
                here = "--metrics 9100" if self.metrics else "--host 127.0.0.1"
                return f"{where}: this machine has no such address; try {here}"
            case _:
                other = option if self.metrics else "--host or --port"
                return f"{where}: {self.cause.strerror or self.cause}; try another {other}"


class NoLedger(PeerError):
    """The Redis at ``url``, which has no password in it, cannot be used; ``why`` is its reason, or the network's."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why

    def __str__(self) -> str:
        return f"cannot use the Redis at {self.url} ({self.why}); is it running there, for this user? see --cluster"


class NotOpen(ConfigError):
    """Others reach ``host``, where the relay was to listen, or what is in front of it, and nobody would be asked for
    a token. ``where`` is the option that says so."""

    def __init__(self, host: str, where: str = "--host") -> None:
        super().__init__(
            f"others reach {host}, and nobody would be asked for a token; give one (--token-file, --jwt-secret-file, "
            "--jwt-key), or say --open",
            where=where,
        )
        self.host = host
