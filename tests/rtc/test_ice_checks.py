"""Order and retransmission of ICE checks: contracts with aioice, and the decisions."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from aioice import Candidate, Connection, ice
from aioice.stun import RETRY_RTO

from peer.rtc import ice_checks
from peer.rtc.ice_checks import IceChecks, source_address

BRIDGES = [f"172.20.{number}.1" for number in range(1, 21)]


def _candidate(host: str, port: int = 1) -> Candidate:
    return Candidate(host, 1, "udp", ice.candidate_priority(1, "host"), host, port, "host")


class _Protocol:
    """A socket that counts what is sent, and answers nothing."""

    def __init__(self, host: str, kind: str = "host") -> None:
        self.local_candidate = _candidate(host)
        self.local_candidate.type = kind
        self.sent: list[float] = []

        self.answered = asyncio.Event()

    def send_stun(self, message: Any, address: tuple[str, int]) -> None:
        self.sent.append(asyncio.get_running_loop().time())

    async def request(self, message: Any, address: tuple[str, int], **options: Any) -> str:
        await self.answered.wait()
        return "answer"


def _route(host: str) -> str | None:
    """The routes of a machine with container bridges and one network."""
    return host if host in BRIDGES else "192.168.7.1"


async def _connection(*remotes: str, turn: bool = False) -> tuple[Any, IceChecks, list[_Protocol]]:
    connection: Any = Connection(ice_controlling=True)
    protocols = [_Protocol(host) for host in (*BRIDGES, "192.168.7.1")]
    protocols += [_Protocol("198.51.100.1", "relay")] if turn else []
    connection._protocols = protocols
    checks = IceChecks(connection, _route)
    checks.add_hosts([protocol.local_candidate for protocol in protocols if protocol.local_candidate.type == "host"])
    for protocol in protocols:
        checks.add_protocol(protocol)
    for remote in remotes:
        connection._pair_remote_candidate(_candidate(remote))
    connection.sort_check_list()
    return connection, checks, protocols


def _pairs(connection: Any) -> list[tuple[str, str]]:
    return [(pair.local_addr[0], pair.remote_addr[0]) for pair in connection._check_list]


async def test_host_candidates_have_distinct_priorities() -> None:
    _, _, protocols = await _connection()
    priorities = [protocol.local_candidate.priority for protocol in protocols]
    assert len(set(priorities)) == 21
    assert max(priorities) == protocols[-1].local_candidate.priority == ice.candidate_priority(1, "host")


async def test_routed_pair_is_checked_first_then_own_addresses() -> None:
    connection, _, _ = await _connection(*BRIDGES, "192.168.7.2", turn=True)
    pairs = _pairs(connection)
    assert len(pairs) == 22 * 21
    assert pairs[0] == ("192.168.7.1", "192.168.7.2")
    assert set(pairs[1:21]) == {(bridge, bridge) for bridge in BRIDGES}
    assert {local for local, _ in pairs[21:42]} == {"198.51.100.1"}


async def test_order_holds_for_trickled_candidates() -> None:
    connection, _, _ = await _connection(*BRIDGES)
    await connection.add_remote_candidate(_candidate("192.168.7.2"))
    assert _pairs(connection)[0] == ("192.168.7.1", "192.168.7.2")


async def test_unanswered_check_of_a_best_pair_is_repeated_early() -> None:
    _, _, protocols = await _connection("192.168.7.2")
    request = asyncio.ensure_future(protocols[-1].request("check", ("192.168.7.2", 1), integrity_key=b"key"))
    await asyncio.sleep(RETRY_RTO + 0.1)
    assert 4 < len(protocols[-1].sent) <= 9  # a busy event loop may skip some
    protocols[-1].answered.set()
    assert await request == "answer"


async def test_early_retransmissions_stop_with_the_answer() -> None:
    _, _, protocols = await _connection("192.168.7.2")
    protocols[-1].answered.set()
    await protocols[-1].request("check", ("192.168.7.2", 1), integrity_key=b"key")
    await asyncio.sleep(3 * ice_checks.EARLY_INTERVAL)
    assert protocols[-1].sent == []


async def test_early_retransmissions_are_paced() -> None:
    connection, _, protocols = await _connection(*BRIDGES, "192.168.7.2")
    best = connection._check_list[: ice_checks.EARLY_PAIRS]
    checks = [
        asyncio.ensure_future(pair.protocol.request("check", pair.remote_addr, integrity_key=b"key")) for pair in best
    ]
    await asyncio.sleep(RETRY_RTO + 0.1)
    sent = sorted(time for protocol in protocols for time in protocol.sent)
    assert 20 < len(sent) <= 45  # a busy event loop may skip some
    assert min(later - earlier for earlier, later in itertools.pairwise(sent)) >= ice_checks.PACE - 0.0005
    for check in checks:
        check.cancel()


@pytest.mark.parametrize("options", [{}, {"integrity_key": b"key", "retransmissions": 0}])
async def test_other_requests_are_not_repeated_early(options: dict[str, Any]) -> None:
    """Those to STUN servers, and consent checks: repeated ones would end calls with a long RTT."""
    _, _, protocols = await _connection("192.168.7.2")
    request = asyncio.ensure_future(protocols[-1].request("check", ("192.168.7.2", 1), **options))
    await asyncio.sleep(3 * ice_checks.EARLY_INTERVAL)
    assert protocols[-1].sent == []
    request.cancel()


async def test_checks_of_other_pairs_are_not_repeated_early() -> None:
    connection, _, _ = await _connection(*BRIDGES, "192.168.7.2")
    last = connection._check_list[-1]
    request = asyncio.ensure_future(last.protocol.request("check", last.remote_addr, integrity_key=b"key"))
    await asyncio.sleep(3 * ice_checks.EARLY_INTERVAL)
    assert last.protocol.sent == []
    request.cancel()


def test_source_address_is_that_of_the_route() -> None:
    assert source_address("127.0.0.1") == "127.0.0.1"
    assert source_address("a.local") is None


async def test_real_connections_connect_with_the_hook() -> None:
    """aioice calls the sorting and the request of ours; each still exists with its signature."""
    near, far = Connection(ice_controlling=True), Connection(ice_controlling=False)
    for connection in (near, far):
        checks = IceChecks(connection)
        await connection.gather_candidates()
        checks.add_hosts(connection.local_candidates)
        for protocol in connection._protocols:
            checks.add_protocol(protocol)
    for one, other in ((near, far), (far, near)):
        one.remote_username, one.remote_password = other.local_username, other.local_password
        for candidate in other.local_candidates:
            await one.add_remote_candidate(candidate)
        await one.add_remote_candidate(None)
    async with asyncio.timeout(5):
        await asyncio.gather(near.connect(), far.connect())
    await asyncio.gather(near.close(), far.close())
