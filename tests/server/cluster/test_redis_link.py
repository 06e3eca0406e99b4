"""The link to the cluster by itself: a real Redis, real time, and no relay. Connections are strings."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from peer.errors import ConfigError
from peer.signaling.messages import Envelope, Join
from server.cluster import redis_link
from server.cluster.redis_link import RedisLink
from server.config import RelayConfig
from server.errors import RedisUnavailable
from server.observability.counters import ClusterCounters
from server.rooms.rooms import Admit, Close, Command, Send
from tests.redis_server import RedisServer, redis_server

from ..keys import certificate
from ..wire import DEADLINE

LEASE = 1.5
"""Redis is out of reach after 0.3 s of silence."""


class Relay:
    """A link, and what it reports to its relay."""

    def __init__(self, url: str, **options: Any) -> None:
        config = RelayConfig(**({"cluster": url, "cluster_lease": LEASE, "grace": 1.0} | options))
        self.counters = ClusterCounters()
        self.link: RedisLink[str] = RedisLink(config, self.counters, self.execute)
        self.admitted: dict[str, tuple[str, ...]] = {}
        self.closed: dict[str, int] = {}
        self.sent: list[tuple[str, dict[str, Any]]] = []

    def execute(self, commands: Sequence[Command[str]]) -> None:
        for command in commands:
            match command:
                case Admit(conn, peers):
                    self.admitted[conn] = peers
                case Close(conn, code, _):
                    self.closed[conn] = code
                case Send(to, text):
                    self.sent += [(conn, json.loads(text)) for conn in to]

    def join(self, conn: str, id: str, key: str | None = None) -> None:
        self.execute(self.link.join(conn, Join(id, key=key), self.now()))

    def send(self, conn: str, sender: str, to: str | None) -> None:
        self.execute(self.link.route(conn, Envelope("offer", sender, to), b'{"type": "offer"}'))

    def received(self, conn: str) -> list[str]:
        """The types of the messages sent to ``conn``."""
        return [body["type"] for to, body in self.sent if to == conn]

    @staticmethod
    def now() -> float:
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def linked(url: str, **options: Any) -> AsyncIterator[Relay]:
    relay = Relay(url, **options)
    await relay.link.start()
    try:
        yield relay
    finally:
        relay.link.drain()
        await relay.link.stop()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0.005)


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.to_thread(function, *args)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that a test may stop."""
    with redis_server() as server:
        yield server


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    facts = [record.__dict__.get("facts", {}) for record in caplog.records if record.name == "server.cluster"]
    return [fact["event"] for fact in facts if "event" in fact]


# --- start and stop -----------------------------------------------------------------------------------------------


async def test_started_link_is_registered_and_a_stopped_one_is_not(ledger_redis: RedisServer) -> None:
    with ledger_redis.client() as client:
        async with linked(ledger_redis.url) as relay:
            (name,) = await in_thread(client.smembers, "peer:v1:nodes")
            assert re.fullmatch(rb"[0-9a-f]{12}\.1", name)
            assert relay.link.why_not_ready() is None and relay.counters.nodes == 1
        assert await in_thread(client.keys, "*") == [b"peer:v1:clock"]


async def test_link_that_was_not_started_can_be_stopped(ledger_redis: RedisServer) -> None:
    await Relay(ledger_redis.url).link.stop()


async def test_prefix_is_that_of_the_address(ledger_redis: RedisServer) -> None:
    with ledger_redis.client() as client:
        async with linked(f"{ledger_redis.url}?prefix=other"):
            assert await in_thread(client.exists, "other:v1:nodes") == 1
            assert await in_thread(client.exists, "peer:v1:nodes") == 0


async def test_start_without_redis_raises_at_once(own_redis: RedisServer) -> None:
    own_redis.kill()
    with pytest.raises(RedisUnavailable, match="Connection refused") as error:
        await Relay(own_redis.url).link.start()
    assert error.value.url == own_redis.url
    own_redis.start()


async def test_start_with_a_wrong_password_raises() -> None:
    with redis_server("--requirepass", "right") as server:
        url = f"redis://:wrong@127.0.0.1:{server.port}/0"
        with pytest.raises(RedisUnavailable, match="rejects this user and password") as error:
            await Relay(url).link.start()
        assert "wrong" not in str(error.value)


async def test_start_at_a_server_that_does_not_answer_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_link, "_START_TIMEOUT", 0.1)
    hang = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await hang.wait()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(RedisUnavailable, match="no answer in"):
            await Relay(f"redis://127.0.0.1:{port}/0", cluster_lease=60.0).link.start()
        hang.set()


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("not a certificate", "")])
async def test_unusable_ca_file_is_a_configuration_error(
    content: str | None, reason: str, ledger_redis: RedisServer, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    url = f"rediss://127.0.0.1:{ledger_redis.port}/0?cacert={path}"
    with pytest.raises(ConfigError, match=rf"--cluster: .*ca\.pem: .*{reason}"):
        await Relay(url).link.start()


async def test_redis_without_tls_is_not_blamed_on_the_ca_file(ledger_redis: RedisServer, tmp_path: Path) -> None:
    url = f"rediss://127.0.0.1:{ledger_redis.port}/0?cacert={certificate(tmp_path / 'a.pem')}"
    with pytest.raises(RedisUnavailable):
        await Relay(url).link.start()


def test_invalid_address_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="--cluster"):
        Relay("http://127.0.0.1/")


async def test_eviction_policy_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--maxmemory-policy", "allkeys-lru") as server:
        async with linked(server.url):
            pass
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "allkeys-lru" in warning.getMessage() and "noeviction" in warning.getMessage()


async def test_stop_does_not_wait_for_a_redis_that_hangs(
    own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(redis_link, "_STOP_TIMEOUT", 0.1)
    async with linked(own_redis.url, cluster_lease=60.0):
        own_redis.freeze()
    own_redis.thaw()
    assert any("left the cluster without an answer" in record.getMessage() for record in caplog.records)


# --- rooms --------------------------------------------------------------------------------------------------------


async def test_links_share_a_room(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url) as one, linked(ledger_redis.url) as two:
        one.join("conn-a", "a")
        await until(lambda: "conn-a" in one.admitted)
        two.join("conn-b", "b")
        await until(lambda: "conn-b" in two.admitted)
        assert (one.admitted["conn-a"], two.admitted["conn-b"]) == ((), ("a",))
        await until(lambda: one.received("conn-a") == ["peer-joined"])
        one.send("conn-a", "a", "b")
        one.send("conn-a", "a", None)
        await until(lambda: two.received("conn-b") == ["offer", "offer"])
        assert (one.link.rooms(), one.link.peers(), len(one.link)) == ([""], ["a", "b"], 1)
        assert (one.link.name("conn-a"), one.link.room("conn-a")) == ("a", "")
        assert (one.link.name("conn-b"), one.link.room("conn-b")) == (None, None)
        await until(lambda: one.counters.nodes == two.counters.nodes == 2)
        two.execute(two.link.leave("conn-b", two.now()))
        await until(lambda: one.received("conn-a")[-1] == "peer-left")


async def test_seat_moves_with_its_queue(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url, grace=DEADLINE) as one, linked(ledger_redis.url, grace=DEADLINE) as two:
        one.join("conn-a", "a", key="k")
        one.join("conn-b", "b")
        await until(lambda: len(one.admitted) == 2)
        one.execute(one.link.drop("conn-a", one.now()))
        one.send("conn-b", "b", "a")
        assert one.link.queued > 0 and one.link.deadline is not None
        two.join("conn-c", "a", key="k")
        await until(lambda: two.received("conn-c") == ["offer"])
        assert one.link.queued == 0


async def test_drained_link_entrusts_its_seats(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url, grace=DEADLINE) as one:
        async with linked(ledger_redis.url, grace=DEADLINE) as two:
            one.join("conn-b", "b")
            two.join("conn-a", "a", key="k")
            await until(lambda: "conn-a" in two.admitted and one.link.peers() == ["b", "a"])
            two.link.drain()
        assert one.link.peers() == ["b", "a"] and len(one.link) == 2
        one.join("conn-c", "a", key="k")
        assert one.admitted["conn-c"] == ("b",)
        assert "peer-left" not in one.received("conn-b")


async def test_claimed_seat_stays_with_a_holder_that_answers(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url) as one, linked(ledger_redis.url) as two:
        one.join("conn-a", "a")
        await until(lambda: "conn-a" in one.admitted)
        two.join("conn-b", "a")

        async def answer() -> None:
            while "conn-b" not in two.closed:
                one.execute(one.link.pong("conn-a"))
                await asyncio.sleep(0.01)

        await _within(answer())
        assert two.closed == {"conn-b": 4409} and not one.closed


async def test_limits_apply_to_the_link(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url) as relay:
        relay.link.max_seats = 1
        relay.join("conn-a", "a")
        relay.join("conn-b", "b")
        assert relay.link.max_seats == 1 and relay.closed == {"conn-b": 4400}


async def _within(work: Awaitable[None]) -> None:
    async with asyncio.timeout(DEADLINE):
        await work


# --- failures -----------------------------------------------------------------------------------------------------


async def test_outage_is_logged_once_and_loses_nothing(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with linked(own_redis.url, cluster_lease=3.0) as one, linked(own_redis.url, cluster_lease=3.0) as two:
        one.join("conn-a", "a")
        await until(lambda: "conn-a" in one.admitted)
        two.join("conn-b", "b")
        await until(lambda: "conn-b" in two.admitted)
        own_redis.freeze()
        one.send("conn-a", "a", "b")
        await until(lambda: one.link.why_not_ready() == "Redis is out of reach" and one.counters.reconnects > 1)
        assert one.counters.waiting > 0
        own_redis.thaw()
        await until(lambda: two.received("conn-b") == ["offer"])
        await until(lambda: one.link.why_not_ready() is None and two.link.why_not_ready() is None)
        assert one.counters.resumptions == 0
        # Otherwise, before Python 3.11.3, the next time-out of the library would end the link.
        assert one.link._task is not None and one.link._task.cancelling() == 0
    assert events(caplog).count("ledger-lost") == events(caplog).count("ledger-back") <= 2


async def test_restarted_redis_is_registered_with_again(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(own_redis.url) as one, linked(own_redis.url) as two:
        one.join("conn-a", "a")
        await until(lambda: "conn-a" in one.admitted)
        two.join("conn-b", "b")
        await until(lambda: "conn-b" in two.admitted)
        await in_thread(own_redis.kill)
        await in_thread(own_redis.start)
        await until(lambda: one.counters.resumptions == two.counters.resumptions == 1)
        one.send("conn-a", "a", "b")
        await until(lambda: two.received("conn-b") == ["offer"])
        assert not one.closed and not two.closed
        assert one.received("conn-a") == ["peer-joined"], "no peer was reported as gone"
    assert events(caplog).count("resumed") == 2


async def test_removed_node_registers_again(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url) as relay:
        relay.join("conn-a", "a")
        await until(lambda: "conn-a" in relay.admitted)
        with ledger_redis.client() as client:
            (name,) = await in_thread(client.smembers, "peer:v1:nodes")
            await in_thread(client.delete, f"peer:v1:node:{name.decode()}")
            await until(lambda: relay.counters.resumptions == 1)
            again = name.partition(b".")[0] + b".2"
            async with asyncio.timeout(DEADLINE):
                while not (await in_thread(client.hget, "peer:v1:seats:/", "a")).startswith(again):
                    await asyncio.sleep(0.005)
        assert not relay.closed


async def test_foreign_inbox_entry_makes_the_node_register_again(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url) as relay:
        with ledger_redis.client() as client:
            (name,) = await in_thread(client.smembers, "peer:v1:nodes")
            await in_thread(client.xadd, f"peer:v1:in:{name.decode()}", {"h": "hello"}, "9999-0")
        await until(lambda: relay.counters.resumptions == 1)
        relay.join("conn-a", "a")
        await until(lambda: "conn-a" in relay.admitted)


async def test_script_that_fails_is_repeated_under_a_new_name(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url) as relay:
        with ledger_redis.client() as client:
            await in_thread(client.delete, "peer:v1:clock")
            await in_thread(client.set, "peer:v1:clock", "not a hash")
            await until(lambda: relay.counters.reconnects > 0 and relay.counters.resumptions > 0)
            await in_thread(client.delete, "peer:v1:clock")
        relay.join("conn-a", "a")
        await until(lambda: "conn-a" in relay.admitted)


async def test_flushed_script_is_loaded_again(ledger_redis: RedisServer) -> None:
    async with linked(ledger_redis.url) as relay:
        with ledger_redis.client() as client:
            await in_thread(client.script_flush)
        relay.join("conn-a", "a")
        await until(lambda: "conn-a" in relay.admitted)
        assert relay.counters.resumptions == 0


async def test_join_without_redis_times_out(own_redis: RedisServer) -> None:
    async with linked(own_redis.url, join_timeout=0.2) as relay:
        own_redis.freeze()
        relay.join("conn-a", "a")
        give_up_at = relay.link.deadline
        assert give_up_at is not None
        await until(lambda: relay.now() >= give_up_at)
        relay.execute(relay.link.expire(relay.now()))
        assert relay.closed == {"conn-a": 1013}
        own_redis.thaw()
        await until(lambda: relay.link.why_not_ready() is None)


async def test_bug_in_the_relay_ends_the_link_and_is_logged(
    ledger_redis: RedisServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay = Relay(ledger_redis.url)
    await relay.link.start()
    monkeypatch.setattr(relay.link, "_execute", lambda commands: 1 / 0)
    relay.join("conn-a", "a")
    await until(lambda: any("the link to the cluster failed" in record.getMessage() for record in caplog.records))
    await until(lambda: relay.link.why_not_ready() is not None)
    await relay.link.stop()


async def test_link_that_is_cancelled_by_accident_fails(
    ledger_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with linked(ledger_redis.url) as relay:
        waiting = asyncio.ensure_future(relay.link.wait_failed())
        assert relay.link._task is not None
        relay.link._task.cancel()
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(RuntimeError, match="cancelled"):
                await waiting
    assert "the link to the cluster failed; this relay stops" in caplog.text


async def test_bug_in_the_link_is_raised_and_logged(
    ledger_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise the relay would run on without a cluster, and accept no peer until it is restarted."""
    async with linked(ledger_redis.url) as relay:
        waiting = asyncio.ensure_future(relay.link.wait_failed())
        await asyncio.sleep(0)
        assert not waiting.done()

        def broken(**_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(relay.link._node, "next_batch", broken)
        async with asyncio.timeout(DEADLINE):
            with pytest.raises(BaseExceptionGroup) as raised:
                await waiting
        assert raised.group_contains(ZeroDivisionError)
        assert "the link to the cluster failed; this relay stops" in caplog.text
