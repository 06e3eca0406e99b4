"""The relay's certificate: TLS 1.2 and newer, and another certificate without a restart.

New connections get what was read last; those that live keep what they began with.
"""

from __future__ import annotations

import asyncio.sslproto
import ssl
from typing import Final

from peer.errors import ConfigError

_READ: Final = 16 * 1024
"""Octets of a read from a TLS socket: one record. asyncio gives each connection a buffer for 256 kB, and fills it
with zeros, so that one which has not said a word costs 290 kB; with this it is 45 kB. For all of this process."""


class Certificate:
    """A certificate and its key, in two PEM files or in one.

    Args:
        cert: the certificate, followed by those between it and the root.
        key: its private key; ``None``: in the same file.

    Raises:
        ConfigError: they cannot be used.
    """

    def __init__(self, cert: str, key: str | None) -> None:
        asyncio.sslproto.SSLProtocol.max_size = _READ
        self._cert, self._key = cert, key
        self._current = self._read()
        self.context = self._read()
        """To listen with. It hands every new connection to the certificate that was read last."""
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Read the files again.

        Raises:
            ConfigError: they cannot be used; the old certificate stays.
        """
        self._current = self._read()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current  # called for clients that name no server too

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        where = "--tls-cert"
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except ssl.SSLError as exc:  # before OSError, which it is
            files = self._cert if self._key is None else f"{self._cert} and {self._key}"
            why = "the key is not the certificate's" if exc.reason == "KEY_VALUES_MISMATCH" else _NO_PAIR
            raise ConfigError(f"{files}: {why}", where=where) from None
        except OSError as exc:
            files = self._cert if self._key is None else f"{self._cert} or {self._key}"
            raise ConfigError(f"{files}: {exc.strerror or exc}", where=where) from None
        return context


_NO_PAIR = "no certificate with its key in PEM, and without a password"


def _no_password() -> str:
    return ""  # else OpenSSL asks on the terminal
