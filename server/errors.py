"""Errors of the relay. They hold facts, and ``str()`` makes the message: what failed, why, what to try."""

from __future__ import annotations

import errno

from peer.errors import ConfigError, PeerError, ProtocolError


def token_required() -> ProtocolError:
    """Return the error for a join without a token at a relay that requires one."""
    return ProtocolError("unauthorized", "this relay requires a token")


class CannotListen(PeerError):
    """The relay cannot bind ``host``:``port``, for peers or for ``metrics``. ``cause`` is the reason."""

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
                return f"{where}: the port is in use, perhaps by another relay; try {option} 0 for a free port"
            case errno.EACCES:
                return f"{where}: not permitted; ports below 1024 need root, try {option} {usual}"
            case errno.EADDRNOTAVAIL:
                here = "--metrics 9100" if self.metrics else "--host 127.0.0.1"
                return f"{where}: this machine does not have this address; try {here}"
            case _:
                other = option if self.metrics else "--host or --port"
                return f"{where}: {self.cause.strerror or self.cause}; try another {other}"


class RedisUnavailable(PeerError):
    """The Redis at ``url`` cannot be used because of ``why``. ``url`` contains no password."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(url, why)
        self.url = url
        self.why = why

    def __str__(self) -> str:
        where = f"cannot use the Redis at {self.url}: {self.why}"
        return f"{where}; check that it is running and accepts this user (see --cluster)"


class UnprotectedRelay(ConfigError):
    """The relay has no token, but other machines can reach ``host``, its address or a proxy in front of it.

    ``where`` is the option that specifies ``host``.
    """

    def __init__(self, host: str, where: str = "--host") -> None:
        super().__init__(
            f"other machines can reach {host}, and no token would be required; set one (PEER_TOKEN, "
            "--token-file, --jwt-secret-file or --jwt-key), or use --open",
            where=where,
        )
        self.host = host
