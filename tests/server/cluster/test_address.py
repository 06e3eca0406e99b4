"""The address of the cluster's Redis: its parts, its defaults, and errors without the password."""

from __future__ import annotations

import pytest

from peer.errors import ConfigError
from server.cluster.address import Address, parse_address


def test_address_has_defaults_for_all_but_the_host() -> None:
    found = parse_address("redis://redis.internal")
    assert found == Address("redis.internal", 6379, False, 0, None, None, "peer", None)
    assert str(found) == "redis://redis.internal:6379/0"


def test_address_has_all_parts_and_its_text_no_password() -> None:
    found = parse_address("rediss://us%40er:p%2Fw@[::1]:7000/3?prefix=a.b&cacert=/etc/ca.pem")
    assert found == Address("::1", 7000, True, 3, "us@er", "p/w", "a.b", "/etc/ca.pem")
    assert str(found) == "rediss://[::1]:7000/3" and "p/w" not in repr(found)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "redis.internal:6379",
        "http://:secret@redis.internal",
        "redis://:secret@",
        "redis://:secret@redis.internal:port/0",
        "redis://:secret@redis.internal:70000/0",
        "redis://:secret@redis.internal/first",
        "redis://:secret@redis.internal/²",
        "redis://:secret@redis.internal/0?prefix",
        "redis://:secret@[::1/0",
    ],
)
def test_url_that_is_not_an_address_raises(url: str) -> None:
    with pytest.raises(ConfigError, match=r"--cluster: .*is not an address of a Redis") as error:
        parse_address(url)
    assert "secret" not in str(error.value)


def test_unknown_parameter_raises() -> None:
    with pytest.raises(ConfigError, match=r"unknown parameter ssl=; use prefix= or cacert="):
        parse_address("redis://redis.internal/0?ssl=1&prefix=a")


@pytest.mark.parametrize("prefix", ["", "a:b", "a" * 65, "ä"])
def test_invalid_prefix_raises(prefix: str) -> None:
    with pytest.raises(ConfigError, match="use 1 to 64 of A-Z"):
        parse_address(f"redis://redis.internal/0?prefix={prefix}")
