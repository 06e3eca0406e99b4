"""The handshake check: website, address behind a proxy, and the order of the two. The client is a fake."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

import pytest

from server.admission.admission import Admission, ConnectionRecord
from server.admission.origins import Origins
from server.admission.proxies import Hop, Proxies
from server.config import RelayConfig
from server.observability.counters import Counters
from server.observability.logs import RateLimitedLogger
from server.transport.connection import Client
from server.transport.handshake import Handshake

CLIENT, PROXY = "192.0.2.1", "10.0.0.1"
SITE = "https://site.example"


class FakeClient:
    def __init__(self, record: ConnectionRecord, *, secure: bool) -> None:
        self.record = record
        self.host = record.host
        self.address = f"{record.host}:1234"
        self.secure = secure

    def set_forwarded(self, hop: Hop) -> None:
        self.host, self.secure = hop.address, hop.scheme == "https"


class Fixture:
    """A handshake check with its admission. ``origins`` are those of ``--allow-origin``."""

    def __init__(self, *origins: str, **options: Any) -> None:
        proxies, self.counters = Proxies([PROXY]), Counters()
        self.admission = Admission(RelayConfig(**options), self.counters, proxies)
        self.admission.max_connections = 1000
        log = RateLimitedLogger(logging.getLogger("server"))
        self.handshake = Handshake(Origins(origins), proxies, self.admission, log)

    def client(self, host: str = CLIENT, *, secure: bool = False) -> FakeClient:
        record = self.admission.admit(host, 0.0)
        assert record is not None
        return FakeClient(record, secure=secure)

    def check(self, headers: dict[str, str | list[str]], client: FakeClient | None = None) -> bytes | None:
        def header(name: str) -> Sequence[str]:
            values = headers.get(name, [])
            return [values] if isinstance(values, str) else values

        return self.handshake.check(cast(Client, client or self.client()), header)

    def admits(self, headers: dict[str, str | list[str]], client: FakeClient | None = None) -> bool:
        response = self.check(headers, client)
        assert response is None or response.startswith(b"HTTP/1.1 403 ")
        return response is None


def test_request_without_origin_is_admitted() -> None:
    assert Fixture().admits({"Host": "relay.example"})


def test_own_page_is_admitted_and_another_website_is_not() -> None:
    relay = Fixture()
    assert relay.admits({"Host": "relay.example", "Origin": "http://relay.example"})
    assert not relay.admits({"Host": "relay.example", "Origin": SITE})
    assert not relay.admits({"Host": "relay.example", "Origin": "https://relay.example"}), "another scheme"


def test_own_page_over_tls_has_the_scheme_https() -> None:
    relay = Fixture()
    headers: dict[str, str | list[str]] = {"Host": "relay.example", "Origin": "https://relay.example"}
    assert relay.admits(headers, relay.client(secure=True))


def test_allowed_origin_is_admitted() -> None:
    assert Fixture(SITE).admits({"Host": "relay.example", "Origin": SITE})


def test_rejected_website_gets_403_with_a_hint() -> None:
    response = Fixture().check({"Host": "relay.example", "Origin": SITE})
    assert response is not None and b"see --allow-origin" in response


def test_repeated_headers_are_not_trusted() -> None:
    relay = Fixture(SITE)
    assert not relay.admits({"Host": "relay.example", "Origin": [SITE, SITE]})
    assert not relay.admits({"Host": ["relay.example"] * 2, "Origin": "http://relay.example"})


def test_host_name_is_not_trusted_without_trust_host() -> None:
    relay = Fixture()
    relay.handshake.trust_host = False
    assert not relay.admits({"Host": "evil.example", "Origin": "http://evil.example"})
    assert relay.admits({"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:8080"})


def test_proxy_reports_client_scheme_and_host() -> None:
    relay = Fixture()
    relay.handshake.trust_host = False  # a name from a trusted proxy is trusted all the same
    client = relay.client(PROXY)
    headers: dict[str, str | list[str]] = {
        "Host": "backend:8080",
        "Origin": "https://relay.example",
        "X-Forwarded-For": CLIENT,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "relay.example",
    }
    assert relay.admits(headers, client)
    assert (client.host, client.secure, client.record.host) == (CLIENT, True, CLIENT)
    assert client.record.address is not None


def test_proxy_without_forwarded_host_passes_on_the_host() -> None:
    relay = Fixture()
    headers: dict[str, str | list[str]] = {"Host": "relay.example", "Origin": "http://relay.example"}
    assert relay.admits(headers | {"X-Forwarded-For": CLIENT}, relay.client(PROXY))


def test_client_behind_a_proxy_over_its_limit_gets_429() -> None:
    relay = Fixture(address_sockets=1)
    headers: dict[str, str | list[str]] = {"X-Forwarded-For": CLIENT, "Origin": SITE}
    relay.admission.admit(CLIENT, 0.0)
    response = relay.check(headers, relay.client(PROXY))
    assert response is not None and response.startswith(b"HTTP/1.1 429 "), "limits come before origins"
    assert relay.counters.limited == {"address-sockets": 1}


def test_forwarded_headers_of_other_clients_are_ignored() -> None:
    relay = Fixture()
    client = relay.client()
    headers: dict[str, str | list[str]] = {
        "Host": "relay.example",
        "Origin": SITE,
        "X-Forwarded-For": "127.0.0.1",
        "X-Forwarded-Host": "site.example",
        "X-Forwarded-Proto": "https",
    }
    assert not relay.admits(headers, client)
    assert (client.host, client.secure) == (CLIENT, False)


def test_unknown_proxy_without_limits_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    relay = Fixture(exempt=("127.0.0.0/8",))
    for host in (CLIENT, "127.0.0.1", "127.0.0.1"):
        assert relay.admits({"X-Forwarded-For": "192.0.2.7"}, relay.client(host))
    (record,) = caplog.records
    assert (
        record.getMessage().startswith("! 127.0.0.1 sends X-Forwarded-For") and "--trust-proxy" in record.getMessage()
    )


def test_rejected_websites_are_logged_once_per_second(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.transport.handshake.monotonic", lambda: 7.0)
    caplog.set_level(logging.INFO, logger="server")
    relay = Fixture()
    for _ in range(3):
        assert not relay.admits({"Host": "relay.example", "Origin": SITE + "x" * 200})
    (record,) = caplog.records
    assert record.__dict__["facts"]["event"] == "foreign" and len(record.getMessage()) < 200
