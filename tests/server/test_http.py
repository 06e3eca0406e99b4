"""HTTP on the relay's port: the page, its files, ``/healthz``, and nothing else."""

from __future__ import annotations

import json
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http import Request, StaticFiles, read_request, response

from .wire import OPENING, Raw, joined, relay

PAGES = StaticFiles(
    {"index.html": b"<!doctype html>", "calls.js": b"export {}", "notes.py": b"secret", "README": b"secret"}
)


def get(path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    head, body = PAGES.answer(Request(method, path), {"status": "ok"}).split(b"\r\n\r\n", 1)
    status, *lines = head.decode().split("\r\n")
    return int(status.split()[1]), dict(line.split(": ", 1) for line in lines), body


def test_page_and_files_have_their_content_types() -> None:
    assert get("/")[2] == get("/index.html")[2] == b"<!doctype html>"
    assert get("/")[1]["Content-Type"] == "text/html; charset=utf-8"
    assert get("/calls.js")[1]["Content-Type"] == "text/javascript; charset=utf-8"


def test_page_has_security_and_cache_headers() -> None:
    headers = get("/")[1]
    assert (
        "script-src" not in headers["Content-Security-Policy"]
    )  # so default-src applies: no inline or foreign script
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-cache"


def test_head_response_has_the_length_and_no_body() -> None:
    status, headers, body = get("/", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "15", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_get_405(method: str) -> None:
    status, headers, _ = get("/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "//",
        "/../pages.py",
        "/..%2fpages.py",
        "/calls.js/",
        "/./calls.js",
        "/notes.py",
        "/README",
        "/calls.js%00",
    ],
)
def test_unlisted_path_gets_404(path: str) -> None:
    assert get(path)[0] == 404


def test_health_is_json() -> None:
    status, headers, body = get("/healthz")
    assert (status, headers["Content-Type"], json.loads(body)) == (200, "application/json", {"status": "ok"})


def test_query_is_not_part_of_the_path() -> None:
    assert read_request(b"GET /?room=attic HTTP/1.1\r\n\r\n") == Request("GET", "/")


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://h/index.html", "/index.html"),
        (b"HTTP://h:8080/ws?x=/y", "/ws"),
        (b"https://h", "/"),
        (b"http://h?room=attic", "/"),
        (b"/http://h/index.html", "/http://h/index.html"),
        (b"?", "/"),
    ],
)
def test_absolute_form_is_accepted(target: bytes, path: str) -> None:
    """RFC 9112, 3.2.2: servers must accept it, although clients send it only to proxies."""
    assert read_request(b"GET " + target + b" HTTP/1.1\r\n\r\n") == Request("GET", path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_none(head: bytes) -> None:
    request = read_request(head + b"\r\n\r\n")
    if request is not None:
        assert PAGES.answer(request, {}).startswith(b"HTTP/1.1 ")


def test_response_has_its_content_length() -> None:
    assert b"Content-Length: 14\r\n" in response(HTTPStatus.NOT_FOUND)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"GET /healthz HTTP/1.0\r\n\r\n", 200),
        (b"HEAD /healthz HTTP/1.1\r\n\r\n", 200),
        (b"GET /nope HTTP/1.1\r\n\r\n", 404),
        (b"POST /healthz HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"POST /ws HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 426),
        (b"GET /ws HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /ws HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (OPENING.replace(b"Version: 13", b"Version: 12"), 400),
        (b"\x16\x03\x01\x02\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, 431),
    ],
)
async def test_page_is_served_over_a_socket(request_: bytes, status: int) -> None:
    async with relay() as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(request_)
        assert (await raw.rest()).startswith(b"HTTP/1.1 %d " % status)
        await raw.end()


async def test_websocket_opens_by_absolute_form() -> None:
    async with relay() as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(OPENING.replace(b"GET /ws", b"GET http://localhost/ws"))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        await raw.end()


async def test_tls_on_the_plain_port_is_answered_at_once() -> None:
    """A ClientHello has no blank line at its end, so the relay would wait until the join time-out."""
    async with relay(join_timeout=60) as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        assert (await raw.rest()).startswith(b"HTTP/1.1 400 ")
        await raw.end()


async def test_health_counts_peers_and_rooms() -> None:
    async with relay() as server, joined(server, "A"), joined(server, "A", room="attic"):
        raw = await Raw.connect(server.port)
        raw.writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
        assert json.loads((await raw.rest()).split(b"\r\n\r\n")[1]) == {"status": "ok", "peers": 2, "rooms": 2}
        await raw.end()


async def test_request_may_arrive_byte_by_byte() -> None:
    async with relay() as server:
        raw = await Raw.connect(server.port)
        for byte in OPENING:
            raw.writer.write(bytes([byte]))
            await raw.writer.drain()
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        await raw.end()
