"""The ICE servers of a peer, and its expiring credentials."""

from __future__ import annotations

import base64

import pytest

from peer.errors import ConfigError
from server.ice.turn_credentials import IceServerList, credential


def test_password_is_the_hmac_of_rfc_2202() -> None:
    published = bytes.fromhex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
    assert base64.b64decode(credential(b"Jefe", "what do ya want for nothing?")) == published


def test_password_equals_that_of_openssl() -> None:
    """printf %s 1433895918:door | openssl dgst -sha1 -hmac north -binary | base64"""
    assert credential(b"north", "1433895918:door") == "qO56cjB5EDn3dgvOCZzYi01/Jhg="


def test_username_has_expiry_time_and_peer() -> None:
    servers = IceServerList(["turn:turn.example", "turns:turn.example:443", "stun:stun.example"], b"north", 3600)
    assert servers.for_peer("door", 1_000_000.0) == (
        {"urls": ["stun:stun.example:3478"]},
        {
            "urls": ["turn:turn.example:3478?transport=udp", "turns:turn.example:443?transport=tcp"],
            "username": "1003600:door",
            "credential": credential(b"north", "1003600:door"),
        },
    )
    assert servers.expires


def test_credentials_never_expire_early() -> None:
    (server,) = IceServerList(["turn:turn.example"], b"north", 1.5).for_peer("door", 1_000_000.2)
    assert server["username"] == "1000002:door"


def test_server_with_user_and_password_keeps_them() -> None:
    servers = IceServerList(["turn:me:hush@turn.example?transport=tcp", "turn:[2001:db8::1]"], b"north", 60)
    lasting, ending = servers.for_peer("door", 0.0)
    assert lasting == {"urls": ["turn:turn.example:3478?transport=tcp"], "username": "me", "credential": "hush"}
    assert ending["urls"] == ["turn:[2001:db8::1]:3478?transport=udp"]
    assert servers.urls == ("turn:turn.example:3478?transport=tcp", "turn:[2001:db8::1]:3478?transport=udp")


def test_credentials_without_a_secret_do_not_expire() -> None:
    assert not IceServerList(["stun:stun.example"], None, 60).expires
    assert not IceServerList([], None, 60).expires and IceServerList([], None, 60).for_peer("door", 0.0) == ()


def test_another_secret_makes_other_passwords() -> None:
    servers = IceServerList(["turn:turn.example"], b"north", 60)
    (before,) = servers.for_peer("door", 0.0)
    servers.set_secret(b"south")
    (after,) = servers.for_peer("door", 0.0)
    assert after["username"] == before["username"]
    assert after["credential"] == credential(b"south", "60:door") != before["credential"]


@pytest.mark.parametrize(
    ("urls", "secret", "message"),
    [
        (["turn:turn.example"], None, "--ice-server: turn:turn.example.* has no credentials; .*--turn-secret-file"),
        (["turn:me:hush@turn.example"], b"north", "--turn-secret-file: .*no server .*--ice-server turn:host"),
        ([], b"north", "--turn-secret-file: "),
        (["turn.example"], None, "--ice-server: 'turn.example' is not an ICE server: use"),
        (["stun:stun.example?transport=tcp"], None, "a STUN server has no transport"),
        (["stun:a"] * 9, None, "9 are too many: peers use at most 8"),
    ],
)
def test_invalid_servers_raise_with_a_hint(urls: list[str], secret: bytes | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        IceServerList(urls, secret, 60)
