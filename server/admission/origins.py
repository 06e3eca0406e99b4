"""Which websites may open a WebSocket here. Pure.

A browser lets any page connect to any relay that it can reach, also to one in the user's own network, and says in
``Origin`` (RFC 6454) which page asks. A request without one is not a browser's. Let in are

- the page that came from here: its origin is this request's own scheme, host and port;
- pages of this very machine (``localhost``, 127.0.0.0/8, ``[::1]``), of any port;
- what ``--allow-origin`` names.

A name in ``Host`` proves nothing where it can be anybody's: whoever owns evil.example may point it at 127.0.0.1 (DNS
rebinding), and then his page is "from here". So a relay that only this machine reaches and that asks for no token
takes a ``Host`` for its own only if that is an address or localhost (``any_host=False``).
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
"""RFC 6454, 6.2, by the alphabets of RFC 3986. ``urlsplit`` overlooks tabs and control characters."""


class Origins:
    """The origins that are let in. ``allowed`` is what the user named, ``*`` for all.

    Raises:
        ConfigError: one that no browser would send.
    """

    def __init__(self, allowed: Iterable[str] = ()) -> None:
        self._allowed = frozenset(map(_read, allowed))

    def allow(self, origin: str | None, *, scheme: str, host: str | None, any_host: bool) -> bool:
        """Whether a page of ``origin`` may connect.

        Args:
            origin: the header, ``None`` without one.
            scheme: ``http`` or ``https``: how the request came.
            host: its ``Host``.
            any_host: whether a name in ``host`` can be trusted to be ours.
        """
        if origin is None or ANY in self._allowed:
            return True
        normal = _normal(origin)
        if normal is None:
            return origin == "null" and "null" in self._allowed
        if normal in self._allowed or _is_here(normal):
            return True
        own = _normal(f"{scheme}://{host}") if host else None
        return normal == own and (any_host or _is_address(normal))


def _read(text: str) -> str:
    if text in (ANY, "null"):
        return text
    normal = _normal(text.removesuffix("/"))
    if normal is None:
        raise ConfigError(
            f"{text[:80]!r} is no origin; write https://site.example, or * for all", where="--allow-origin"
        )
    return normal


def _normal(origin: str) -> str | None:
    """``scheme://host:port`` in small letters and always with its port; ``None`` for what is no origin."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme, host = match[1].lower(), match[2].lower()
    port = int(match[3]) if match[3] else _DEFAULT_PORTS.get(scheme, 0)
    return f"{scheme}://{host}:{port}" if port < 65536 else None


def _host(normal: str) -> str:
    return normal.partition("://")[2].rpartition(":")[0].strip("[]")


def _is_here(normal: str) -> bool:
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
