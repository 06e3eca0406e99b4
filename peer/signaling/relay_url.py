"""Address of a relay: its URL, and the TLS context that checks its certificate."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from ..errors import ConfigError, redacted


def check_url(url: str) -> str:
    """Return ``url`` with the path ``/ws`` if it has none.

    Raises:
        ConfigError: not the URL of a relay.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("ws", "wss") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise ConfigError(
            f"{redacted(url)!r} is not a relay URL: use ws://host:port/ws or wss://host/ws", where="--server"
        )
    return url if parts.path not in ("", "/") else parts._replace(path="/ws").geturl()


def without_zone(url: str) -> tuple[str, dict[str, Any]]:
    """Split the zone off an IPv6 address: ``ws://[fe80::1%25eth0]/ws`` (RFC 6874; the % may be raw).

    Return the URL without it, for the ``Host`` header and the certificate, and ``host`` and ``port`` to connect to.
    Without a zone, the latter are absent.
    """
    parts = urlsplit(url)
    address, percent, zone = (parts.hostname or "").partition("%")
    if not percent:
        return url, {}
    user, at, _ = parts.netloc.rpartition("@")
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    plain = parts._replace(netloc=f"{user}{at}[{address}]:{port}").geturl()
    return plain, {"host": f"{address}%{zone.removeprefix('25') or zone}", "port": port}


def tls_context(cacert: str | None) -> ssl.SSLContext | None:
    """Return a TLS context that trusts only the certificates in the PEM file ``cacert``.

    Returns ``None``, for the system's trust, if ``cacert`` is ``None``.

    Raises:
        ConfigError: the file cannot be read or contains no certificate.
    """
    if cacert is None:
        return None
    try:
        return ssl.create_default_context(cafile=cacert)
    except ssl.SSLError:
        raise ConfigError(f"{cacert}: no PEM certificate", where="--cacert") from None
    except OSError as exc:
        raise ConfigError(f"{cacert}: {exc.strerror or exc}", where="--cacert") from None
