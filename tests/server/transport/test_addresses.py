"""Which addresses a relay that listens on all of them prints."""

from __future__ import annotations

import ipaddress
import json
import subprocess

import pytest

from server.transport.addresses import reachable
from tests.server.wire import relay


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "relay.example", "192.0.2.7"])
def test_reachable_of_one_address_is_itself(host: str) -> None:
    assert reachable(host) == [host]


@pytest.mark.parametrize(("host", "versions"), [("0.0.0.0", {4}), ("::", {6}), ("::0", {6}), ("", {4, 6})])
def test_reachable_of_all_addresses_can_be_typed_elsewhere(host: str, versions: set[int]) -> None:
    found = [ipaddress.ip_address(address) for address in reachable(host)]
    assert found and {address.version for address in found} <= versions
    assert not any(address.is_unspecified or address.is_link_local for address in found)
    assert len(found) == 1 or not any(address.is_loopback for address in found)


def test_reachable_lists_what_ip_addr_shows() -> None:
    unstable = ("temporary", "deprecated", "tentative", "dadfailed")
    shown = [
        address["local"]
        for interface in json.loads(subprocess.check_output(["ip", "-json", "address", "show"]))
        for address in interface["addr_info"]
        if address["scope"] == "global" and not any(address.get(flag) for flag in unstable)
    ]
    assert sorted(reachable("")) == sorted(shown or ["127.0.0.1"])


async def test_relay_on_all_addresses_names_no_wildcard() -> None:
    async with relay(host="0.0.0.0", open=True) as server:
        assert server.urls == [f"ws://{host}:{server.port}/ws" for host in reachable("0.0.0.0")]
        assert server.pages == [f"http://{host}:{server.port}/" for host in reachable("0.0.0.0")]
        assert (server.url, server.page) == (server.urls[0], server.pages[0])
