"""Rate limits as pure arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.admission import rate_limits
from server.admission.rate_limits import (
    BURST,
    COPY_SIZE,
    Address,
    AddressLimits,
    AddressTable,
    RateLimit,
    Rates,
    TrafficMeter,
)

FREE = Rates(messages=0, bytes=0, copies=0)


def meter(
    messages: float = 0, bytes: float = 0, copies: float = 0, address: TrafficMeter | None = None
) -> TrafficMeter:
    return TrafficMeter(Rates(messages=messages, bytes=bytes, copies=copies), address)


def addresses(sockets: int = 0, connects: float = 0, joins: float = 0) -> AddressTable:
    return AddressTable(AddressLimits(sockets=sockets, connects=connects, joins=joins, rates=FREE))


def arrive(table: AddressTable, host: str, now: float = 0.0) -> Address:
    found = table.add_connection(host, now)
    assert isinstance(found, Address)
    return found


def test_burst_of_ten_seconds_passes_and_of_twenty_closes() -> None:
    sender = meter(messages=4)  # powers of two, so that floating-point results are exact
    ahead = [sender.count_message(0, 100.0) for _ in range(81)]
    assert all(seconds <= BURST for seconds in ahead[:40])
    assert all(BURST < seconds <= 2 * BURST for seconds in ahead[40:80])
    assert ahead[80] > 2 * BURST


def test_sender_that_waits_may_continue() -> None:
    sender = meter(messages=4)
    for _ in range(41):
        sender.count_message(0, 100.0)
    assert sender.ahead(100.0) > BURST
    assert sender.count_message(0, 100.5) <= BURST
    assert sender.ahead(200.0) < 0


def test_bytes_are_counted_as_read_and_stop_messages() -> None:
    sender = meter(messages=1000, bytes=100)
    assert sender.count_bytes(500, 0.0) <= BURST
    assert sender.count_message(501, 0.0) > BURST
    assert sender.exceeded(0.0) == "octets"
    assert sender.count_message(0, 0.1) <= BURST


def test_rate_of_zero_is_no_limit() -> None:
    sender = meter()
    for _ in range(1000):
        sender.count_bytes(1 << 30, 1.0)
        assert sender.count_message(0, 1.0) == 0
    sender.count_copies(1 << 30, 1000, 1.0)
    assert sender.exceeded_copy_limit(1.0) is None


@given(
    st.floats(1, 1000),
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 400)), max_size=60),
)
def test_at_most_the_rate_and_one_burst_pass(rate: float, steps: list[tuple[float, int]]) -> None:
    sender, now, passed = meter(messages=rate), 0.0, 0
    for wait, count in steps:
        now += wait
        passed += sum(sender.count_message(0, now) <= BURST for _ in range(count))
        assert passed <= rate * (BURST + now) + 1e-6 * (passed + 1)


@given(st.lists(st.floats(0, 5), max_size=200))
def test_sender_within_its_rate_is_never_stopped(waits: list[float]) -> None:
    sender, now = meter(messages=2), 50.0
    for wait in waits:
        now += max(wait, 0.5)
        assert sender.count_message(0, now) <= BURST


def test_connections_of_an_address_share_its_rate() -> None:
    address = meter(messages=5)
    one, two = meter(messages=100, address=address), meter(messages=100, address=address)
    for _ in range(25):
        assert one.count_message(0, 0.0) <= BURST and two.count_message(0, 0.0) <= BURST
    assert two.count_message(0, 0.0) > BURST
    assert two.exceeded(0.0) == "address-messages"
    assert one.ahead(0.0) > BURST


def test_flooding_connection_leaves_its_neighbors_their_share() -> None:
    address = meter(messages=50, bytes=50_000)
    flooder, other = meter(5, 5000, address=address), meter(5, 5000, address=address)
    for _ in range(10_000):
        flooder.count_message(1000, 0.0)
    assert flooder.exceeded(0.0) in ("messages", "octets")
    assert other.count_message(1000, 0.0) <= BURST


def test_broadcast_counts_once_per_recipient() -> None:
    sender = meter(copies=10)
    assert sender.exceeded_copy_limit(0.0) is None
    sender.count_copies(100, 300, 0.0)  # a large room: allowed once
    assert sender.exceeded_copy_limit(0.0) == "copies"
    assert sender.exceeded_copy_limit(19.0) == "copies"
    assert sender.exceeded_copy_limit(20.2) is None
    assert sender.count_message(0, 0.0) <= BURST, "what is for one goes on"


def test_large_broadcast_counts_as_several_copies() -> None:
    sender = meter(copies=10)
    sender.count_copies(COPY_SIZE * 3 + 1, 25, 0.0)
    assert sender.exceeded_copy_limit(0.0) == "copies"
    shared = meter(copies=10, address=meter(copies=1))
    shared.count_copies(1, 11, 0.0)
    assert shared.exceeded_copy_limit(0.0) == "address-copies"


def test_rate_limit_allows_its_burst_and_then_its_rate() -> None:
    limit = RateLimit(2, burst=5)
    assert [limit.try_add(10.0) for _ in range(12)] == [True] * 10 + [False] * 2
    assert limit.try_add(10.5) and not limit.try_add(10.5)
    assert not limit.is_idle(15.0) and limit.is_idle(15.5)


def test_address_connections_and_connect_rate_are_limited() -> None:
    table = addresses(sockets=2, connects=3)
    first = arrive(table, "192.0.2.1")
    arrive(table, "192.0.2.1")
    assert table.add_connection("192.0.2.1", 0.0) == "address-sockets"
    arrive(table, "192.0.2.2")
    table.remove_connection(first, 0.0)
    arrive(table, "192.0.2.1")
    table.remove_connection(first, 0.0)
    assert table.add_connection("192.0.2.1", 0.0) == "address-connects"
    arrive(table, "192.0.2.1", 20.0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("0.0.0.5", "0:0:0:5::", False),
    ],
)
def test_ipv6_addresses_count_by_their_network(one: str, other: str, same: bool) -> None:
    table = addresses()
    assert (arrive(table, one) is arrive(table, other)) is same


def test_host_that_is_not_an_address_has_no_limits() -> None:
    assert addresses(sockets=1).add_connection("?", 0.0) is None


def test_address_is_kept_while_it_is_ahead_of_a_rate() -> None:
    table = addresses(connects=1)
    table.remove_connection(arrive(table, "192.0.2.1"), 0.0)
    assert table.add_connection("192.0.2.1", 1.0) == "address-connects"
    table.remove_connection(arrive(table, "192.0.2.2", 61.0), 61.0)
    assert len(table) == 1


def test_address_table_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_IDLE", 100)
    table = addresses(connects=1)
    stays = arrive(table, "2001:db8:ffff::1")
    for n in range(1000):
        table.remove_connection(arrive(table, f"2001:db8:{n:x}::1"), 0.0)
    assert len(table) == 101
    table.remove_connection(stays, 0.0)
    assert len(table) == 100
