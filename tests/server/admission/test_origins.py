"""Websites that may connect."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import ConfigError
from server.admission.origins import Origins

from ..wire import OPENING, Raw, relay


def allowed(
    origin: str | None, *named: str, host: str = "relay.example", scheme: str = "https", trust_host: bool = True
) -> bool:
    return Origins(named).allow(origin, scheme=scheme, host=host, trust_host=trust_host)


def test_request_without_origin_is_allowed() -> None:
    assert allowed(None)


@pytest.mark.parametrize(
    ("origin", "host", "scheme"),
    [
        ("https://relay.example", "relay.example", "https"),
        ("https://relay.example", "relay.example:443", "https"),
        ("https://RELAY.example:8443", "relay.EXAMPLE:8443", "https"),
        ("http://10.0.0.7:8080", "10.0.0.7:8080", "http"),
        ("http://[fd00::1]:8080", "[fd00::1]:8080", "http"),
    ],
)
def test_own_page_is_allowed(origin: str, host: str, scheme: str) -> None:
    assert allowed(origin, host=host, scheme=scheme)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost",
        "http://localhost:3000",
        "http://app.localhost",
        "https://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:80",
    ],
)
def test_pages_from_this_machine_are_allowed(origin: str) -> None:
    assert allowed(origin)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "null",
        "https://evil.example",
        "http://relay.example",  # another scheme
        "https://relay.example:8443",  # another port
        "https://relay.example.evil.example",
        "https://evilrelay.example",
        "https://sub.relay.example",
        "https://relay.example@evil.example",
        "https://evil.example/https://relay.example",
        "https://relay.example/",
        "https://relay.example?x",
        "https://relay.example https://evil.example",
        "http://localhost.evil.example",
        "http://evillocalhost",
        "http://127.0.0.1.evil.example",
        "http://127.0.0.1@evil.example",
        "http://2130706433.example",
        "https://relay.examp\u217ce",
        "https://[::1",
        "https://relay.example:99999",
        "file://",
        "http://[::1]\0:80",
        "http://local\thost",
        "http://[localhost]",
    ],
)
def test_other_origins_are_rejected(origin: str) -> None:
    assert not allowed(origin)


def test_named_origin_is_allowed_only_if_it_is_equal() -> None:
    assert allowed("https://site.example", "https://site.example/")
    assert allowed("https://SITE.example:443", "HTTPS://site.example")
    assert allowed("null", "null") and not allowed("null", "https://site.example")
    for other in ("http://site.example", "https://site.example:444", "https://a.site.example"):
        assert not allowed(other, "https://site.example")
    assert allowed("https://anything.example", "*") and allowed("null", "*")


def test_rebound_host_name_is_not_the_own_origin() -> None:
    """DNS rebinding: evil.example resolves to 127.0.0.1, so the page connects to its "own" server."""
    evil = "http://evil.example:8080"
    assert allowed(evil, host="evil.example:8080", scheme="http")
    assert not allowed(evil, host="evil.example:8080", scheme="http", trust_host=False)
    assert allowed("http://10.0.0.7", host="10.0.0.7", scheme="http", trust_host=False)


@pytest.mark.parametrize(
    "text", ["site.example", "https://", "https://a/b", "https://*.site.example/x", "", "https://a b/"]
)
def test_invalid_allowed_origin_raises(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--allow-origin: .*https://site\.example"):
        Origins([text])


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_origin_and_host_give_a_decision(origin: str, host: str) -> None:
    assert allowed(origin, host=host) in (True, False)


def opening(*lines: bytes) -> bytes:
    return OPENING.replace(b"Upgrade: websocket", b"\r\n".join((b"Upgrade: websocket", *lines)))


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (opening(), 101),
        (opening(b"Origin: http://localhost:3000"), 101),
        (opening(b"Origin: https://elsewhere.example"), 403),
        (opening(b"Origin: null"), 403),
        (opening(b"Origin: http://localhost", b"Origin: https://elsewhere.example"), 403),
        (opening(b"Origin: http://evil.example").replace(b"Host: localhost", b"Host: evil.example"), 403),
        (
            opening(b"Origin: http://a.example").replace(b"Host: localhost", b"Host: a.example\r\nHost: b.example"),
            403,
        ),
    ],
)
async def test_foreign_website_gets_403_over_a_socket(request_: bytes, status: int) -> None:
    async with relay() as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(request_)
        head = await raw.head()
        assert head.startswith(b"HTTP/1.1 %d " % status)
        if status == 403:
            assert b"--allow-origin" in await raw.rest()
        await raw.end()


async def test_named_website_connects_over_a_socket() -> None:
    async with relay(allow_origins=("https://site.example",)) as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(opening(b"Origin: https://site.example"))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        await raw.end()


async def test_relay_with_a_token_accepts_any_own_name() -> None:
    async with relay(token="secret") as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(opening(b"Origin: http://relay.example").replace(b"Host: localhost", b"Host: relay.example"))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")
        await raw.end()
