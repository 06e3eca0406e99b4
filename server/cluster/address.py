"""Address of the cluster's Redis: ``redis://user:password@host:port/db?prefix=NAME``. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from peer.errors import ConfigError, redacted

OPTION: Final = "--cluster"
_PREFIX: Final = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed address. ``str()`` omits the password."""

    host: str
    port: int
    tls: bool
    db: int
    username: str | None
    password: str | None = field(repr=False)
    prefix: str
    """Prefix of all keys. Relays with another prefix form another cluster."""
    cacert: str | None
    """PEM file with the trusted certificates. ``None``: those of the system."""

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"


def parse_address(url: str) -> Address:
    """Read the value of ``--cluster``.

    Raises:
        ConfigError: it is not an address of a Redis.
    """
    shown = redacted(url)[:200]
    try:
        parts = urlsplit(url)
        port = 6379 if parts.port is None else parts.port
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise _wrong(shown) from None
    path = parts.path.removeprefix("/") or "0"
    if parts.scheme not in ("redis", "rediss") or not parts.hostname or not path.isascii() or not path.isdigit():
        raise _wrong(shown)
    if unknown := sorted(query.keys() - {"prefix", "cacert"}):
        raise ConfigError(f"{shown}: unknown parameter {unknown[0]}=; use prefix= or cacert=", where=OPTION)
    prefix = query.get("prefix", "peer")
    if _PREFIX.fullmatch(prefix) is None:
        raise ConfigError(f"prefix={prefix[:80]}: use 1 to 64 of A-Z a-z 0-9 . _ ~ -", where=OPTION)
    return Address(
        parts.hostname,
        port,
        parts.scheme == "rediss",
        int(path),
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        prefix,
        query.get("cacert"),
    )


def _wrong(shown: str) -> ConfigError:
    return ConfigError(f"{shown} is not an address of a Redis; write it like redis://host:6379/0", where=OPTION)
