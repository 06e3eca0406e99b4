"""ICE servers: parsing of URLs and of the relay's list, and merging of both."""

from __future__ import annotations

from typing import Any

import pytest

from peer.errors import ConfigError
from peer.signaling.ice_servers import MAX_SERVERS, IceServer, merge, parse_ice_server, read_ice_servers


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("stun:stun.example", IceServer("stun", "stun.example", 3478)),
        ("stun:192.0.2.1:19302", IceServer("stun", "192.0.2.1", 19302)),
        ("turn:me:secret@turn.example", IceServer("turn", "turn.example", 3478, "udp", "me", "secret")),
        (
            "turn:me:secret@turn.example:443?transport=tcp",
            IceServer("turn", "turn.example", 443, "tcp", "me", "secret"),
        ),
        ("turns:me:s:e@[2001:db8::1]", IceServer("turns", "2001:db8::1", 5349, "tcp", "me", "s:e")),
    ],
)
def test_ice_server_url_is_parsed(text: str, server: IceServer) -> None:
    assert parse_ice_server(text) == server


@pytest.mark.parametrize(
    "text", ["", "stun:", "http://stun.example", "turn:turn.example", "stun:host:0", "stun:host:99999", "stun:a b"]
)
def test_invalid_ice_server_error_says_what_is_valid(text: str) -> None:
    with pytest.raises(ConfigError, match=r": use (stun|turn):|is not in 1 to 65535"):
        parse_ice_server(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("turn:me:hush@turn.example:99999", "'turn:…@turn.example:99999'"),
        ("turn:me:hush@hush@turn.example", "'turn:…@turn.example'"),
        ("turn:me:hush/@turn.example/x", "'turn:…@turn.example/x'"),
        ("turn:me:hush", "'turn:…'"),
        ("me:hush@turn.example", "'…@turn.example'"),
        ("hush@turn.example", "'…@turn.example'"),
        ("stun.example:3478", "'stun.example:3478'"),
    ],
)
def test_ice_server_error_has_no_credentials(text: str, shown: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_ice_server(text)
    assert shown in str(caught.value)
    assert "hush" not in str(caught.value)


def test_ice_server_repr_has_no_password() -> None:
    assert "hush" not in repr(parse_ice_server("turn:me:hush@turn.example"))


def test_stun_server_with_transport_is_rejected() -> None:
    """RFC 7064 defines none, and Chromium rejects the whole list."""
    with pytest.raises(ConfigError, match=r"omit \?transport"):
        parse_ice_server("stun:stun.example?transport=udp")


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("stun:stun.example", "stun:stun.example:3478"),
        ("turn://me:hush@turn.example", "turn:turn.example:3478?transport=udp"),
        ("turns:me:hush@[2001:db8::1]", "turns:[2001:db8::1]:5349?transport=tcp"),
    ],
)
def test_url_of_ice_server_has_no_credentials(text: str, url: str) -> None:
    assert parse_ice_server(text).url == url
    assert parse_ice_server(url, bare=True).url == url


@pytest.mark.parametrize("text", ["stuns:stun.example", "turns:me:hush@turn.example?transport=udp"])
def test_unsupported_ice_server_has_a_reason(text: str) -> None:
    assert parse_ice_server(text).unsupported


def test_relay_list_with_invalid_entries_skips_them() -> None:
    servers: list[dict[str, Any]] = [
        {"urls": ["stun:stun.example", "gopher:x", "stuns:stun.example"]},
        {"urls": "turn:turn.example?transport=tcp", "username": "17:me", "credential": "pa/ss=:@"},
        {"urls": "turn:a:hush@turn.example", "username": "17:me"},
        {"urls": 7},
        {},
    ]
    found, skipped = read_ice_servers(servers)
    assert found == [
        IceServer("stun", "stun.example", 3478),
        IceServer("turn", "turn.example", 3478, "tcp", "17:me", "pa/ss=:@"),
    ]
    assert len(skipped) == 3 and "no credentials" in skipped[2]
    assert "hush" not in str(skipped)


def test_relay_list_too_long_is_truncated() -> None:
    found, skipped = read_ice_servers([{"urls": [f"stun:host-{n}" for n in range(100_000)] + ["gopher:x"]}])
    assert len(found) == MAX_SERVERS and len(skipped) == 1
    found, skipped = read_ice_servers([{"urls": ["x" * 100_000] * 100}])
    assert not found and sum(map(len, skipped)) < 8_000


def test_merge_puts_own_servers_first_and_prefers_them() -> None:
    own = parse_ice_server("turn:me:mine@turn.example")
    theirs, _ = read_ice_servers(
        [{"urls": ["turn:turn.example", "turn:other.example"], "username": "17:me", "credential": "hush"}]
    )
    assert merge([own], theirs) == (own, theirs[1])
    assert len(merge([own], [parse_ice_server(f"stun:host-{n}") for n in range(20)])) == MAX_SERVERS
