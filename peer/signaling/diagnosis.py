"""Why the relay could not be reached, for people: what happened, what to try, and whether trying again can help.

Translates what ``websockets``, ``ssl`` and the sockets raise when a connection to the relay does not come about.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import InvalidMessage, InvalidStatus

from ..errors import IS_IT_RUNNING, redacted

_NO_RELAY_BEHIND: Final = (502, 503)
"""What a proxy says while the relay behind it is away: nginx and Caddy the one, HAProxy the other."""

_MISMATCH: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_DATES: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED

_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's words for an answer that is no TLS; which of them depends on its version."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """``why`` is what happened, ``hint`` what to try; ``lasting``: the next attempt will end in the same way."""

    why: str
    hint: str | None = IS_IT_RUNNING
    lasting: bool = False


SILENT: Final = Trouble("no answer", "is it stopped or busy, or a firewall between?")
"""It did not take the connection, or no WebSocket came of it, in time."""

NOT_YET: Final = Trouble("it is there, but lets nobody in yet", "see its log")
"""It took the WebSocket, and did not answer the join in time."""


def diagnose(exc: Exception, url: str) -> Trouble:
    """What ``exc`` means, which connecting to the relay at ``url`` raised. Nothing in it holds a password."""
    parts, shown = urlsplit(url), redacted(url)
    match exc:
        case ssl.SSLCertVerificationError():
            return _certificate(exc, parts.hostname or "")
        case ssl.SSLError(reason=reason) if reason in _NO_TLS:
            return Trouble("it does not speak TLS", f"try ws://{shown[6:]}", lasting=True)
        case InvalidMessage(__cause__=EOFError()) | ConnectionResetError():
            other = (
                f"speaks TLS, try wss://{shown[5:]}" if parts.scheme == "ws" else f"has no TLS, try ws://{shown[6:]}"
            )
            return Trouble("it hung up without an answer", f"if it {other}")
        case InvalidStatus(response=response):
            return _status(response.status_code, parts.path)
        case socket.gaierror():
            return Trouble(f"no address is known for {parts.hostname}: {exc.strerror}", "is it spelt right?")
        case OSError() if is_refusal(exc):
            return Trouble("nothing listens there")
        case ssl.SSLError():
            return Trouble(redacted(str(exc)), None)
        case OSError(errno=int(number)):
            return Trouble(os.strerror(number).lower())  # asyncio's text has the number and the address as well
    return Trouble(redacted(str(exc)) or type(exc).__name__)


def _certificate(exc: ssl.SSLCertVerificationError, host: str) -> Trouble:
    if exc.verify_code in _MISMATCH:
        return Trouble(f"its certificate is not for {host}", "write the name that it is for", lasting=True)
    why = f"its certificate is not trusted: {exc.verify_message.rstrip('.')}"
    hint = "it needs a new one, or the clock is wrong" if exc.verify_code in _DATES else "see --cacert"
    return Trouble(why, hint, lasting=True)


def _status(code: int, path: str) -> Trouble:
    try:
        why = f"HTTP {code}, {HTTPStatus(code).phrase}"
    except ValueError:  # a server's own
        why = f"HTTP {code}"
    if code in _NO_RELAY_BEHIND:
        return Trouble(why, "is the relay behind it running?")
    if code == HTTPStatus.NOT_FOUND:
        hint = "is it a relay?" if path == "/ws" else "the path of a relay is /ws"
        return Trouble(why, hint, lasting=True)
    return Trouble(why, "is it a relay?")


def is_refusal(exc: Exception) -> bool:
    """Whether the host lives, and the relay on it does not listen."""
    match exc:
        case ConnectionRefusedError():
            return True
        case InvalidStatus(response=response):
            return response.status_code in _NO_RELAY_BEHIND and "Retry-After" not in response.headers
        case OSError(errno=None):  # asyncio, when a name has several addresses: only the text says why
            return f"[Errno {errno.ECONNREFUSED}]" in str(exc)
    return False


def too_many(exc: Exception) -> tuple[str, str] | None:
    """Code and message of a relay that has no room for one more connection from here; None: it is not that."""
    match exc:
        case InvalidStatus(response=response) if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return "rate-limited", "too many connections from this address"
    return None
