"""Admission: limits of connections, addresses, joins and broadcasts. Time is the test's."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from peer.errors import ConfigError
from peer.signaling.messages import ProtocolError
from server.admission.admission import MAX_REFUSALS, RETRY_AFTER, WRONG_TOKEN_COST, Admission, ConnectionRecord
from server.admission.proxies import Proxies
from server.config import RelayConfig
from server.observability.counters import Counters

CLIENT, OTHER, PROXY = "192.0.2.1", "192.0.2.2", "10.0.0.1"


class Fixture:
    """An admission with its counters. The limits are those of ``options``; all others are off."""

    def __init__(self, *, connections: int = 1000, **options: Any) -> None:
        off = dict.fromkeys(
            (
                *("message_rate", "byte_rate", "copy_rate", "address_sockets", "address_connect_rate"),
                *("address_join_rate", "address_message_rate", "address_byte_rate", "address_copy_rate"),
            ),
            0,
        )
        self.counters = Counters()
        self.admission = Admission(RelayConfig(**(off | options)), self.counters, Proxies([PROXY]))
        self.admission.max_connections = connections

    def admit(self, host: str = CLIENT, now: float = 0.0) -> ConnectionRecord:
        record = self.admission.admit(host, now)
        assert record is not None
        return record

    def rejected(self, host: str = CLIENT, now: float = 0.0) -> bytes:
        """Open a connection that gets a response instead of service, and return the response."""
        refusal = self.admit(host, now).refusal
        assert refusal is not None
        return refusal


def test_connection_within_all_limits_is_admitted() -> None:
    record = Fixture().admit(now=7.0)
    assert (record.host, record.accepted_at, record.refusal, record.open) == (CLIENT, 7.0, None, True)
    assert record.address is not None and record.meter.address is record.address.meter


def test_connections_over_the_limit_get_503_until_one_ends() -> None:
    relay = Fixture(connections=2)
    first, _ = relay.admit(), relay.admit(OTHER)
    response = relay.rejected()
    assert response.startswith(b"HTTP/1.1 503 ") and f"Retry-After: {RETRY_AFTER}\r\n".encode() in response
    assert relay.counters.limited == {"connections": 1}
    relay.admission.remove(first, 0.0)
    assert relay.admit().refusal is None


def test_connection_removed_twice_is_counted_once() -> None:
    relay = Fixture(connections=2)
    first = relay.admit()
    relay.admit()
    relay.admission.remove(first, 0.0)
    relay.admission.remove(first, 0.0)
    relay.admit()
    relay.rejected()


def test_rejected_connections_take_no_place_of_others() -> None:
    relay = Fixture(connections=2, address_sockets=1)
    relay.admit()
    for _ in range(3):
        relay.rejected()
    assert relay.admit(OTHER).refusal is None


def test_rejections_beyond_the_maximum_get_no_response() -> None:
    relay = Fixture(connections=1)
    relay.admit()
    rejected = [relay.admit() for _ in range(MAX_REFUSALS)]
    assert relay.admission.admit(CLIENT, 0.0) is None
    assert relay.counters.limited["connections"] == MAX_REFUSALS + 1
    relay.admission.remove(rejected[0], 0.0)
    relay.rejected()


def test_address_over_its_connections_gets_429() -> None:
    relay = Fixture(address_sockets=1)
    first = relay.admit()
    assert relay.rejected().startswith(b"HTTP/1.1 429 ")
    assert relay.admit(OTHER).refusal is None
    relay.admission.remove(first, 0.0)
    assert relay.admit().refusal is None
    assert relay.counters.limited == {"address-sockets": 1}


def test_address_over_its_connect_rate_gets_429_for_a_while() -> None:
    relay = Fixture(address_connect_rate=2)
    relay.admit()
    relay.admit()
    assert b"connects too often" in relay.rejected()
    assert relay.admit(now=31.0).refusal is None


def test_exempt_address_has_no_limits() -> None:
    relay = Fixture(address_sockets=1, address_join_rate=1, exempt=("192.0.2.0/24",))
    for _ in range(3):
        record = relay.admit()
        relay.admission.check_join(record, 0.0)
        assert record.refusal is None and record.address is None and record.meter.address is None


def test_exempt_that_is_not_a_network_raises() -> None:
    with pytest.raises(ConfigError, match="--exempt"):
        Fixture(exempt=("here",))


def test_proxy_has_no_limits_and_its_clients_have_their_own() -> None:
    relay = Fixture(address_sockets=1)
    first, second, third = relay.admit(PROXY), relay.admit(PROXY), relay.admit(PROXY)
    assert relay.admission.set_address(first, CLIENT, 0.0) is None
    assert first.host == CLIENT and first.address is not None
    assert relay.admission.set_address(second, CLIENT, 0.0) == "address-sockets"
    assert relay.admission.set_address(third, OTHER, 0.0) is None


def test_joins_over_the_rate_are_rejected() -> None:
    relay = Fixture(address_join_rate=2)
    record = relay.admit()
    relay.admission.check_join(record, 0.0)
    relay.admission.check_join(record, 0.0)
    with pytest.raises(ProtocolError, match="at most 2 per minute") as error:
        relay.admission.check_join(record, 0.0)
    assert error.value.code == "rate-limited" and relay.counters.limited == {"address-joins": 1}
    relay.admission.check_join(record, 31.0)


def test_join_with_a_wrong_token_counts_as_several() -> None:
    relay = Fixture(address_join_rate=2 * WRONG_TOKEN_COST)
    record = relay.admit()
    for _ in range(2):
        relay.admission.check_join(record, 0.0)
        relay.admission.count_wrong_token(record, 0.0)
    with pytest.raises(ProtocolError, match="too many joins"):
        relay.admission.check_join(record, 0.0)


@pytest.mark.parametrize(
    ("option", "limit", "text"),
    [
        ("copy_rate", "copies", "too many broadcasts: "),
        ("address_copy_rate", "address-copies", "from your address: "),
    ],
)
def test_broadcast_over_the_copy_rate_is_rejected(option: str, limit: str, text: str) -> None:
    relay = Fixture(**{option: 1})
    record = relay.admit()
    relay.admission.check_broadcast(record, 0.0)
    record.meter.count_copies(100, 11, 0.0)
    with pytest.raises(ProtocolError, match=f"{text}at most 1 per second") as error:
        relay.admission.check_broadcast(record, 0.0)
    assert error.value.code == "rate-limited" and relay.counters.limited == {limit: 1}
    relay.admission.check_broadcast(record, 2.0)


def test_exceeded_limit_is_logged_once_per_second(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="server")
    relay = Fixture()
    for now in (0.0, 0.1, 0.9, 1.1):
        relay.admission.count_exceeded("messages", CLIENT, now)
    assert relay.counters.limited == {"messages": 4}
    assert [record.getMessage() for record in caplog.records] == [
        f"! {CLIENT} exceeds the messages limit",
        f"! {CLIENT} exceeds the messages limit, and 2 more",
    ]
    facts = caplog.records[-1].__dict__["facts"]
    assert facts == {"event": "limited", "limit": "messages", "address": CLIENT, "more": 2}
