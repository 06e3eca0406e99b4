"""Websites that may open a WebSocket. Pure.

A browser lets any page connect to any relay that it can reach, including one in the user's own network. It sends the
page's origin in ``Origin`` (RFC 6454); a request without it is not from a browser. The relay admits

- its own page, whose origin is the scheme, host and port of the request itself;
- pages from this machine (``localhost``, 127.0.0.0/8, ``[::1]``), from any port;
- origins named by ``--allow-origin``.

A name in ``Host`` does not prove that a page is the relay's own: the owner of evil.example can point that name to
127.0.0.1 (DNS rebinding). A relay that only this machine can reach and that requires no token therefore accepts
``Host`` as its own only if it is an address or localhost (``trust_host=False``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from peer.errors import ConfigError

ANY: Final = "*"
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_ORIGIN: Final = re.compile(
    r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._~%!$&'()*+,;=-]+)(?::(\d{0,5}))?", re.ASCII | re.IGNORECASE
)
"""RFC 6454, 6.2, with the alphabets of RFC 3986. ``urlsplit`` ignores tabs and control characters."""


class Origins:
    """The admitted origins.

    Args:
        allowed: origins that the user named; ``*`` for all.

    Raises:
        ConfigError: one of them is not an origin.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(map(_read, allowed))

    def allow(self, origin: str | None, *, scheme: str, host: str | None, trust_host: bool) -> bool:
        """Return whether a page from ``origin`` may connect.

        Args:
            origin: the ``Origin`` header; ``None`` if there is none.
            scheme: ``http`` or ``https``, the scheme of the request.
            host: its ``Host`` header.
            trust_host: whether a name in ``host`` may be taken for the relay's own.
        """
        if origin is None or ANY in self._allowed:
            return True
        normal = _normal(origin)
        if normal is None:
            return origin == "null" and "null" in self._allowed
        if normal in self._allowed or _is_local(normal):
            return True
        own = _normal(f"{scheme}://{host}") if host else None
        return normal == own and (trust_host or _is_address(normal))


def _read(text: str) -> str:
    if text in (ANY, "null"):
        return text
    normal = _normal(text.removesuffix("/"))
    if normal is None:
        raise ConfigError(
            f"{text[:80]!r} is not an origin; write https://site.example, or * for all", where="--allow-origin"
        )
    return normal


def _normal(origin: str) -> str | None:
    """Return ``scheme://host:port`` in lower case, always with a port, or ``None`` if ``origin`` is not an origin."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3]) if match[3] else _DEFAULT_PORTS.get(scheme, 0)
    return f"{scheme}://{host}:{port}" if port < 65536 else None


def _host(normal: str) -> str:
    return normal.partition("://")[2].rpartition(":")[0].strip("[]")


def _is_local(normal: str) -> bool:
    host = _host(normal)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(normal: str) -> bool:
    try:
        ip_address(_host(normal))
    except ValueError:
        return False
    return True
