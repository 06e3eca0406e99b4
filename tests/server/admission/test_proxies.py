"""Addresses reported by trusted proxies, and forged ones."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.errors import ConfigError
from server.admission.proxies import Proxies, read_address

from ..wire import OPENING, Raw, joined, relay, text

OURS = Proxies(["10.0.0.0/8", "127.0.0.1", "fd00::/8"])


def client(*values: str, proxies: Proxies = OURS, by: str = "10.0.0.1") -> str:
    return proxies.hop(by, lambda name: values if name == "X-Forwarded-For" else ()).address


def test_no_proxy_is_trusted_unless_named() -> None:
    assert not Proxies().trust("127.0.0.1")
    assert OURS.trust("10.1.2.3") and OURS.trust("::ffff:10.1.2.3") and OURS.trust("fd00::1%eth0")
    assert not OURS.trust("11.0.0.1") and not OURS.trust("?")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("203.0.113.7",), "203.0.113.7"),
        (("198.51.100.1, 203.0.113.7",), "203.0.113.7"),  # the part before it was written by the client
        (("198.51.100.1", "203.0.113.7"), "203.0.113.7"),
        (("203.0.113.7, 10.0.0.9",), "203.0.113.7"),  # two trusted proxies
        (("127.0.0.1, 203.0.113.7, 10.0.0.9",), "203.0.113.7"),
        (("10.0.0.7, 10.0.0.9",), "10.0.0.7"),  # a client in the proxies' network
        (("203.0.113.7:4711",), "203.0.113.7"),
        (("[2001:db8::1]:4711",), "2001:db8::1"),
        (("2001:db8::1",), "2001:db8::1"),
        (("::ffff:203.0.113.7",), "203.0.113.7"),
        ((), "10.0.0.1"),
        (("",), "10.0.0.1"),
        (("unknown",), "10.0.0.1"),
        (("203.0.113.7, unknown",), "10.0.0.1"),
        (("203.0.113.7, unknown, 10.0.0.9",), "10.0.0.9"),
        (("203.0.113.7,",), "10.0.0.1"),
        (("203.0.113.7\t",), "203.0.113.7"),
    ],
)  # fmt: skip
def test_last_address_that_is_not_a_proxy_counts(values: tuple[str, ...], expected: str) -> None:
    assert client(*values) == expected


@given(st.text(max_size=100))
def test_any_header_gives_an_address(value: str) -> None:
    assert read_address(client(value)) is not None


def test_last_scheme_and_host_count() -> None:
    headers = {"X-Forwarded-Proto": ["http, https"], "X-Forwarded-Host": ["evil.example", "Relay.example"]}
    hop = OURS.hop("10.0.0.1", lambda name: headers.get(name, []))
    assert (hop.scheme, hop.host) == ("https", "relay.example")
    hop = OURS.hop("10.0.0.1", lambda name: ["javascript"] if name.endswith("Proto") else [])
    assert (hop.scheme, hop.host) == ("http", None)


@pytest.mark.parametrize("network", ["10.0.0.1/8", "nginx", "", "10.0.0.0/33"])
def test_invalid_network_raises(network: str) -> None:
    with pytest.raises(ConfigError, match=r"--trust-proxy: .*10\.0\.0\.0/8"):
        Proxies([network])


FORWARDED = OPENING.replace(
    b"Host: localhost",
    b"Host: 127.0.0.1:8080\r\nX-Forwarded-For: 203.0.113.7\r\n"
    b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: relay.example",
)


@pytest.mark.parametrize(
    ("trusted", "origin", "status"),
    [
        (("127.0.0.0/8",), b"https://relay.example", 101),
        (("127.0.0.0/8",), b"http://relay.example", 403),
        (("192.0.2.0/24",), b"https://relay.example", 403),
        ((), b"https://relay.example", 403),
    ],
)
async def test_page_behind_a_proxy_is_the_own_origin(trusted: tuple[str, ...], origin: bytes, status: int) -> None:
    async with relay(trust_proxies=trusted, open=True) as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(FORWARDED.replace(b"Upgrade: websocket", b"Upgrade: websocket\r\nOrigin: " + origin))
        assert (await raw.head()).startswith(b"HTTP/1.1 %d " % status)
        await raw.end()


@pytest.mark.parametrize(("trusted", "seen"), [(("127.0.0.1",), True), ((), False)])
async def test_log_has_the_address_behind_a_trusted_proxy_only(
    trusted: tuple[str, ...], seen: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with relay(trust_proxies=trusted, open=True) as server, joined(server, "watch") as watch:
        raw = await Raw.connect(server.port)
        raw.writer.write(FORWARDED)
        await raw.head()
        raw.writer.write(text({"type": "join", "peerId": "A"}))
        assert (await watch.get())["peerId"] == "A"
        assert ("A joined from 203.0.113.7 by 127.0.0.1" in caplog.text) is seen
        await raw.end()
