"""Address of a relay: URLs that are completed or rejected, zones, files of certificates."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.errors import ConfigError
from peer.signaling.relay_url import check_url, tls_context, without_zone


@pytest.mark.parametrize(
    ("url", "plain", "host", "port"),
    [
        ("ws://[fe80::1%25eth0]:8080/ws", "ws://[fe80::1]:8080/ws", "fe80::1%eth0", 8080),
        ("ws://[fe80::1%eth0]:8080/ws", "ws://[fe80::1]:8080/ws", "fe80::1%eth0", 8080),
        ("wss://[fe80::1%25Wlan0]/ws", "wss://[fe80::1]:443/ws", "fe80::1%Wlan0", 443),
        ("ws://[fe80::1%252]/ws", "ws://[fe80::1]:80/ws", "fe80::1%2", 80),
    ],
)
def test_zone_of_an_address_is_decoded(url: str, plain: str, host: str, port: int) -> None:
    assert without_zone(check_url(url)) == (plain, {"host": host, "port": port})


@pytest.mark.parametrize("url", ["ws://[fe80::1]:8080/ws", "ws://relay.example/a%20b"])
def test_url_without_zone_is_unchanged(url: str) -> None:
    assert without_zone(url) == (url, {})


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("ws://host:1", "ws://host:1/ws"),
        ("wss://host/", "wss://host/ws"),
        ("ws://host/other?x=1", "ws://host/other?x=1"),
    ],
)
def test_check_url_without_path_appends_ws(given: str, used: str) -> None:
    assert check_url(given) == used


@pytest.mark.parametrize(
    "url", ["", "host:8080", "http://host", "ws://", "ws://host:0", "ws://host:99999", "ws://[x"]
)
def test_check_url_invalid_raises_with_example(url: str) -> None:
    with pytest.raises(ConfigError, match="ws://host:port/ws"):
        check_url(url)


def test_check_url_error_has_no_credentials() -> None:
    with pytest.raises(ConfigError, match="'http://relay/ws' is not a relay URL"):
        check_url("http://me:sec/r@t@relay/ws")


@pytest.mark.parametrize(("content", "error"), [(None, "No such file"), ("", "no PEM certificate"), ("x", "no PEM")])
def test_cacert_unusable_raises_with_file_name(tmp_path: Path, content: str | None, error: str) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=rf"--cacert: .*ca\.pem: {error}"):
        tls_context(str(path))
