"""The little HTTP that is no WebSocket: the page, its files, and ``/healthz``. Pure: request in, response out.

websockets' protocol reads only what may become a WebSocket: no HEAD, no body, and in older versions no method but
GET; so a head is looked at here first, and only ``/ws`` goes on to websockets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from typing import Final

_CONTENT_TYPES: Final[Mapping[str, str]] = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".webmanifest": "application/manifest+json",
    ".txt": "text/plain; charset=utf-8",
}
"""What is served of ``server/web``; a file of any other kind is not."""

_HEADERS: Final = (
    # the page's own files only; ws: because a page may be told to use another relay
    "Content-Security-Policy: default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; "
    "media-src 'self' blob: mediastream:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'\r\n"
    "Permissions-Policy: camera=(self), microphone=(self), display-capture=(self)\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Cache-Control: no-cache\r\n"
    "Connection: close\r\n"
)

FOREIGN: Final = b"403 Forbidden: this relay takes no connections from pages of that site; see --allow-origin\n"
"""The body for a website that may not connect. A browser keeps it from the page, and shows it to who debugs."""

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,8192}) HTTP/1\.[01]\r\n")
_AUTHORITY: Final = re.compile(rb"https?://[^/?]+", re.IGNORECASE)
"""What an absolute-form target has before its path (RFC 9112, 3.2.2). We have one site, whatever its name."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request line. ``path`` is without the query, and not decoded: no name we serve needs it."""

    method: str
    path: str


def read_request(head: bytes) -> Request | None:
    """The request line of ``head``, or None when it is not HTTP/1."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        return None
    method, target = line.groups()
    if absolute := _AUTHORITY.match(target):
        target = target[absolute.end() :]
    return Request(method.decode(), target.split(b"?", 1)[0].decode() or "/")


def response(
    status: HTTPStatus,
    body: bytes = b"",
    kind: str = "text/plain; charset=utf-8",
    *,
    head: bool = False,
    extra: str = "",
) -> bytes:
    """One whole response. ``head`` leaves the body out and keeps its length; ``extra`` is more header lines."""
    body = body or f"{status.value} {status.phrase}\n".encode()
    lines = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{lines}{extra}{_HEADERS}\r\n".encode() + (b"" if head else body)


class Pages:
    """The files of one folder, read once: what is not among them does not exist, whatever the path says."""

    def __init__(self, found: Mapping[str, bytes]) -> None:
        self._files = {f"/{name}": (_content_type(name), body) for name, body in found.items() if _content_type(name)}
        if "/index.html" in self._files:
            self._files["/"] = self._files["/index.html"]

    @classmethod
    def of_package(cls) -> Pages:
        """The page that comes with this package."""
        folder = files("server") / "web"
        if not folder.is_dir():
            return cls({})
        return cls({item.name: item.read_bytes() for item in folder.iterdir() if item.is_file()})

    def answer(self, request: Request, health: Mapping[str, object]) -> bytes:
        """The response to anything but an opening of ``/ws``. ``health`` is what ``/healthz`` says."""
        found = self._find(request.path, health)
        if found is None:
            return response(HTTPStatus.NOT_FOUND, head=request.method == "HEAD")
        if request.method not in ("GET", "HEAD"):
            return response(HTTPStatus.METHOD_NOT_ALLOWED, extra="Allow: GET, HEAD\r\n")
        kind, body = found
        return response(HTTPStatus.OK, body, kind, head=request.method == "HEAD")

    def _find(self, path: str, health: Mapping[str, object]) -> tuple[str, bytes] | None:
        if path == "/healthz":
            return _CONTENT_TYPES[".json"], json.dumps(health).encode() + b"\n"
        return self._files.get(path)


def _content_type(name: str) -> str:
    return _CONTENT_TYPES.get(name[name.rfind(".") :].lower() if "." in name else "", "")
