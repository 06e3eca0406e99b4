"""The relay's TLS certificate, which can be replaced without a restart. TLS 1.2 and newer.

New connections use the certificate that was read last. Open ones keep theirs.
"""

from __future__ import annotations

import asyncio.sslproto
import ssl
from typing import Final

from peer.errors import ConfigError

_READ_SIZE: Final = 16 * 1024
"""Size of a read from a TLS socket, in bytes: one record.

asyncio allocates a buffer of 256 kB per connection and fills it with zeros, so an idle connection takes 290 kB. With
this size it takes 45 kB. The setting affects the whole process.
"""


class Certificate:
    """A certificate and its key, in two PEM files or in one.

    Args:
        cert: file with the certificate, followed by any intermediate ones.
        key: file with its private key. ``None``: in the same file.

    Raises:
        ConfigError: they cannot be used.
    """

    def __init__(self, cert: str, key: str | None) -> None:
        asyncio.sslproto.SSLProtocol.max_size = _READ_SIZE
        self._cert, self._key = cert, key
        self._current = self._read()
        self.context = self._read()
        """The context to listen with. It switches each new connection to the certificate that was read last."""
        self.context.sni_callback = self._choose

    def reload(self) -> None:
        """Read the files again.

        Raises:
            ConfigError: they cannot be used. The old certificate stays in use.
        """
        self._current = self._read()

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current  # also called for clients that send no server name

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        where = "--tls-cert"
        try:
            context.load_cert_chain(self._cert, self._key, password=_no_password)
        except ssl.SSLError as exc:  # before OSError, which it is
            files = self._cert if self._key is None else f"{self._cert} and {self._key}"
            why = "the key does not match the certificate" if exc.reason == "KEY_VALUES_MISMATCH" else _NO_PAIR
            raise ConfigError(f"{files}: {why}", where=where) from None
        except OSError as exc:
            files = self._cert if self._key is None else f"{self._cert} or {self._key}"
            raise ConfigError(f"{files}: {exc.strerror or exc}", where=where) from None
        return context


_NO_PAIR = "not a certificate and its key in PEM format without a password"


def _no_password() -> str:
    return ""  # otherwise OpenSSL asks on the terminal
