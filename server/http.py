"""HTTP requests other than WebSocket handshakes: the page, its files, and ``/healthz``. Pure.

websockets' protocol reads only requests that may become a WebSocket: no HEAD, no body, and in older versions only
GET. Each request is therefore read here first, and only ``/ws`` is passed to websockets.
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
"""The kinds of files in ``server/web`` that are served."""

_HEADERS: Final = (
    # the page loads its own files only; ws: because it may connect to another relay
    "Content-Security-Policy: default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data: blob:; "
    "media-src 'self' blob: mediastream:; object-src 'none'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'\r\n"
    "Permissions-Policy: camera=(self), microphone=(self), display-capture=(self)\r\n"
    "Referrer-Policy: no-referrer\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Cache-Control: no-cache\r\n"
    "Connection: close\r\n"
)

FOREIGN_ORIGIN: Final = b"403 Forbidden: this website may not connect to this relay; see --allow-origin\n"
"""The body for a website that may not connect. Browsers hide it from the page, but show it to developers."""

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) ([!-~]{1,8192}) HTTP/1\.[01]\r\n")
_AUTHORITY: Final = re.compile(rb"https?://[^/?]+", re.IGNORECASE)
"""The part of an absolute-form target before its path (RFC 9112, 3.2.2). The host in it does not matter here."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request line. ``path`` has no query and is not decoded: no served name needs it."""

    method: str
    path: str


def read_request(head: bytes) -> Request | None:
    """Read the request line of ``head``. Returns ``None`` if it is not HTTP/1."""
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
    """Return a response. ``head`` omits the body, but keeps its length; ``extra`` is more header lines."""
    body = body or f"{status.value} {status.phrase}\n".encode()
    lines = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{lines}{extra}{_HEADERS}\r\n".encode() + (b"" if head else body)


class StaticFiles:
    """The files of one folder, read once. No path leads to any other file."""

    def __init__(self, found: Mapping[str, bytes]) -> None:
        self._files = {f"/{name}": (_content_type(name), body) for name, body in found.items() if _content_type(name)}
        if "/index.html" in self._files:
            self._files["/"] = self._files["/index.html"]

    @classmethod
    def of_package(cls) -> StaticFiles:
        """Return the page in this package."""
        folder = files("server") / "web"
        if not folder.is_dir():
            return cls({})
        return cls({item.name: item.read_bytes() for item in folder.iterdir() if item.is_file()})

    def answer(self, request: Request, health: Mapping[str, object]) -> bytes:
        """Return the response to ``request``. ``health`` is the content of ``/healthz``."""
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
