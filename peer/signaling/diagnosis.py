"""Diagnosis of a failed connection to the relay: what happened, what to try, and whether a retry can help.

Translates the exceptions of ``websockets``, ``ssl`` and the sockets into messages for people.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import InvalidMessage, InvalidProxy, InvalidProxyStatus, InvalidStatus, ProxyError
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from ..errors import IS_IT_RUNNING, redacted

_BAD_GATEWAY: Final = (502, 503)
"""Status codes of a proxy whose relay is away: 502 from nginx and Caddy, 503 from HAProxy."""

_NAME_MISMATCH: Final = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OUTSIDE_VALIDITY: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED

_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's reasons for an answer that is not TLS. Which one is used depends on the version of OpenSSL."""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why an attempt failed.

    ``why`` is what happened and ``hint`` what to try. ``permanent`` means that every further attempt will fail in the
    same way until the configuration is changed.
    """

    why: str
    hint: str | None = IS_IT_RUNNING
    permanent: bool = False


NO_ANSWER: Final = Diagnosis("no answer", "check that it is running and that no firewall blocks it")
"""The TCP connection or the WebSocket handshake timed out."""

JOIN_UNANSWERED: Final = Diagnosis("it accepts connections but does not answer the join", "see its log")
"""The WebSocket was open, but the join timed out."""


def diagnose(exc: Exception, url: str) -> Diagnosis:
    """Explain ``exc``, which an attempt to connect to the relay at ``url`` raised. The result has no credentials."""
    parts, shown = urlsplit(url), redacted(url)
    if (proxy := _proxy(url)) is not None and (found := _diagnose_proxy(exc, redacted(proxy))) is not None:
        return found
    match exc:
        case ssl.SSLCertVerificationError():
            return _diagnose_certificate(exc, parts.hostname or "")
        case ssl.SSLError(reason=reason) if reason in _NO_TLS:
            return Diagnosis("it does not speak TLS", f"try ws://{shown[6:]}", permanent=True)
        case InvalidMessage(__cause__=EOFError()) | ConnectionResetError():
            other = (
                f"speaks TLS, try wss://{shown[5:]}" if parts.scheme == "ws" else f"has no TLS, try ws://{shown[6:]}"
            )
            return Diagnosis("it closed the connection without an answer", f"if it {other}")
        case InvalidStatus(response=response):
            return _diagnose_status(response.status_code, parts.path)
        case socket.gaierror():
            return Diagnosis(f"cannot resolve {parts.hostname}: {exc.strerror}", "check the spelling")
        case OSError() if is_connection_refused(exc):
            return Diagnosis("connection refused")
        case ssl.SSLError():
            return Diagnosis(redacted(str(exc)), None)
        case OSError(errno=int(number)):
            return Diagnosis(os.strerror(number).lower())  # asyncio's text repeats the number and the address
    return Diagnosis(redacted(str(exc)) or type(exc).__name__)


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine. No proxy is used then."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for ``url`` (``http_proxy``, ``https_proxy``, ``no_proxy``), if
    any."""
    if is_loopback(url):
        return None
    try:
        return get_proxy(parse_uri(url))
    except ValueError:
        return None


def _diagnose_proxy(exc: Exception, proxy: str) -> Diagnosis | None:
    """Explain an error on the way to the proxy; ``None`` if the relay behind it may be the cause."""
    hint = "check http_proxy and https_proxy, or list the relay's host in no_proxy"
    match exc:
        case InvalidProxyStatus(response=response):
            return Diagnosis(f"the proxy {proxy} answered {response.status_code} {response.reason_phrase}", hint)
        case InvalidProxy():
            return Diagnosis(f"the proxy {proxy} cannot be used: {redacted(str(exc))}", hint, permanent=True)
        case ProxyError():
            return Diagnosis(f"the proxy {proxy} failed: {redacted(str(exc))}", hint)
        case socket.gaierror():
            return Diagnosis(f"cannot resolve the proxy {proxy}: {exc.strerror}", hint)
        case OSError() if is_connection_refused(exc):
            return Diagnosis(f"the proxy {proxy} refused the connection", hint)
    return None


def _diagnose_certificate(exc: ssl.SSLCertVerificationError, host: str) -> Diagnosis:
    if exc.verify_code in _NAME_MISMATCH:
        return Diagnosis(f"its certificate is not for {host}", "use the host name in its certificate", permanent=True)
    why = f"its certificate is not trusted: {exc.verify_message.rstrip('.')}"
    hint = "renew it, or check the clock" if exc.verify_code in _OUTSIDE_VALIDITY else "see --cacert"
    return Diagnosis(why, hint, permanent=True)


def _diagnose_status(code: int, path: str) -> Diagnosis:
    try:
        why = f"HTTP {code} {HTTPStatus(code).phrase}"
    except ValueError:  # not a registered status code
        why = f"HTTP {code}"
    if code in _BAD_GATEWAY:
        return Diagnosis(why, "is the relay behind this proxy running?")
    if code == HTTPStatus.NOT_FOUND:
        hint = "is this a relay?" if path == "/ws" else "the path of a relay is /ws"
        return Diagnosis(why, hint, permanent=True)
    return Diagnosis(why, "is this a relay?")


def is_connection_refused(exc: Exception) -> bool:
    """Whether the host is up, but no relay listens on it. A proxy's 502 counts too."""
    match exc:
        case ConnectionRefusedError():
            return True
        case InvalidStatus(response=response):
            return response.status_code in _BAD_GATEWAY and "Retry-After" not in response.headers
        case OSError(errno=None):  # asyncio for a name with several addresses: the error numbers are in the text only
            return f"[Errno {errno.ECONNREFUSED}]" in str(exc)
    return False


def rate_limit_rejection(exc: Exception) -> tuple[str, str] | None:
    """Return code and message if the relay rejected the connection because of a limit (HTTP 429), else ``None``."""
    match exc:
        case InvalidStatus(response=response) if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            return "rate-limited", "too many connections from this address"
    return None
