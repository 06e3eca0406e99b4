"""Three real relays, a real Redis, and real sockets between them."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from server.errors import RedisUnavailable
from server.relay import Relay, RelayConfig
from tests.redis_server import RedisServer, redis_server

from ..keys import certificate
from ..wire import DEADLINE, ROOT, Peer, Raw, join_crowd, joined, opened, relay, until

LEASE = 3.0
"""A silent relay is noticed after 0.6 s, and a new ledger is trusted after 1 s."""
Trio = tuple[Relay, Relay, Relay]


@pytest.fixture
async def trio(ledger_redis: RedisServer) -> AsyncIterator[Trio]:
    async with three_relays(ledger_redis.url, cluster_lease=30.0, message_rate=0) as relays:
        yield relays


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    with redis_server() as server:
        yield server


@asynccontextmanager
async def three_relays(url: str, **options: Any) -> AsyncIterator[Trio]:
    options = {"cluster": url, "cluster_lease": LEASE, "grace": 2.0} | options
    async with relay(**options) as one, relay(**options) as two, relay(**options) as three:
        yield one, two, three


async def silence(*peers: Peer) -> None:
    """Check that no message has arrived, or is on its way, for any of ``peers``."""
    for peer in peers:
        await peer.barrier()


async def back(relay: Relay, peer_id: str, key: str) -> Peer:
    """Open a second connection with the key of the first, and receive its list."""
    peer = Peer(await connect(relay.url, ping_interval=None, max_size=None, max_queue=None))
    peer.id = peer_id
    await peer.send({"type": "join", "peerId": peer_id, "key": key})
    assert (await peer.get())["type"] == "peer-list"
    return peer


async def test_peers_of_three_relays_share_a_room(trio: Trio) -> None:
    one, two, three = trio
    async with joined(one, "A", peers=[]) as a, joined(two, "B", peers=["A"]) as b:
        assert await a.get() == {"type": "peer-joined", "peerId": "B"}
        async with joined(three, "C", peers=["A", "B"]) as c:
            assert await a.get() == await b.get() == {"type": "peer-joined", "peerId": "C"}
            await c.send_message("offer", to="A", sdp="x")
            assert (await a.get())["sdp"] == "x"
            await a.send_message("wave")
            assert (await b.get())["type"] == (await c.get())["type"] == "wave"
        assert await a.get() == await b.get() == {"type": "peer-left", "peerId": "C"}
        await silence(a, b)


async def test_message_to_another_relay_arrives_unchanged(trio: Trio) -> None:
    sent = ' {\t"to" : "B",\r\n "sdp":"\\u0041 é 🛋", "from":"A","type":"answer", "n":1.0e+2}\n'
    async with joined(trio[0], "A") as a, joined(trio[1], "B") as b:
        await a.send(sent)
        assert await b.text() == sent


async def test_rooms_with_any_names_are_separate(trio: Trio) -> None:
    one, two, _ = trio
    async with (
        joined(one, "A", peers=[]) as a,
        joined(two, "A", room="-", peers=[]),
        joined(two, "A", room="A", peers=[]),
        joined(two, "B", room="-", peers=["A"]),
        joined(two, "B", peers=["A"]),
    ):
        assert await a.get() == {"type": "peer-joined", "peerId": "B"}
        await silence(a)


async def test_clusters_with_different_prefixes_are_separate(ledger_redis: RedisServer) -> None:
    async with relay(cluster=ledger_redis.url) as ours, relay(cluster=f"{ledger_redis.url}?prefix=b") as theirs:
        async with joined(ours, "A", peers=[]) as a, joined(theirs, "A", peers=[]):
            await silence(a)


async def test_hundreds_of_joins_at_three_relays_give_complete_views(trio: Trio) -> None:
    names = [f"id-{n:03}" for n in range(300)]
    peers = [await Raw.open(trio[n % 3].port) for n in range(len(names))]

    await join_crowd(peers, names)
    for peer in peers:
        peer.reset()
    await until(lambda: not any(relay.sessions.clients for relay in trio))


# --- rule 3 -------------------------------------------------------------------------------------------------------


async def test_same_key_takes_the_seat_from_another_relay(trio: Trio) -> None:
    one, two, three = trio
    async with joined(three, "B") as b, joined(one, "A", key="k") as old:
        assert (await b.get())["peerId"] == "A"
        async with joined(two, "A", peers=["B"], key="k") as new:
            assert await old.closed() == 4001
            await b.send_message("offer", to="A", sdp="x")
            assert (await new.get())["type"] == "offer"
            await silence(b, new)


async def test_live_peer_at_another_relay_keeps_its_id(trio: Trio) -> None:
    async with joined(trio[0], "A", key="k") as a, opened(trio[1]) as late:
        await late.send({"type": "join", "peerId": "A", "key": "other"})
        assert (await late.get())["code"] == "id-taken"
        assert await late.closed() == 4409
        await silence(a)


async def test_dead_peer_at_another_relay_loses_its_id(ledger_redis: RedisServer) -> None:
    async with three_relays(ledger_redis.url, takeover_ping=0.2) as (one, two, three), joined(three, "B") as b:
        dead = await Raw.join(one.port, "A")  # answers no ping
        assert (await b.get())["type"] == "peer-joined"
        async with joined(two, "A", peers=["B"]):
            assert [(await b.get())["type"] for _ in range(2)] == ["peer-left", "peer-joined"]
            assert await dead.closed() == 4001
        await dead.end()


async def test_one_of_ninety_claims_at_three_relays_gets_the_id(trio: Trio) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(opened(trio[n % 3])) for n in range(90)]
        for peer in peers:
            await peer.send({"type": "join", "peerId": "A"})
        got = [await peer.get() for peer in peers]
        assert sorted(body.get("code", "in") for body in got) == ["id-taken"] * 89 + ["in"]


# --- rules 5 and 6, and order ---------------------------------------------------------------------------------------


async def test_peer_returning_at_another_relay_gets_its_queue(trio: Trio) -> None:
    one, two, three = trio
    async with joined(three, "B") as b, joined(one, "C") as c:
        first = await Raw.join(one.port, "A", key="k")
        for peer in (b, c):
            while (await peer.get())["peerId"] != "A":
                pass
        first.reset()
        await until(lambda: len(one.sessions.clients) == 1)
        for n in range(20):
            await (b if n % 2 else c).send_message("offer", to="A", n=n)
        await silence(b, c)  # so their earlier messages have been read
        a = await back(two, "A", "k")
        got = [(await a.get())["n"] for _ in range(20)]
        assert [n for n in got if n % 2] == list(range(1, 20, 2))
        assert [n for n in got if not n % 2] == list(range(0, 20, 2))
        await silence(a, b, c)
        await a.ws.close()


async def test_grace_ends_for_all_relays(ledger_redis: RedisServer) -> None:
    async with three_relays(ledger_redis.url, grace=0.2) as (one, two, _), joined(two, "B") as b:
        raw = await Raw.join(one.port, "A", key="k")
        assert (await b.get())["type"] == "peer-joined"
        raw.reset()
        assert await b.get() == {"type": "peer-left", "peerId": "A"}
        await b.send_message("offer", to="A")
        assert (await b.get())["code"] == "peer-not-found"


async def test_messages_stay_in_order_while_both_peers_change_relays(trio: Trio) -> None:
    """A and B send numbered messages to each other, C to both. A moves seven times, B ten times, C stays."""
    total, moves = 3000, {"A": 7, "B": 10}
    seats: dict[str, Peer] = {}
    pairs = [("A", "B"), ("B", "A"), ("C", "B"), ("C", "A")]
    # per connection, in order of the joins: the last messages of the old one may be read late
    got: dict[tuple[str, str], list[list[int]]] = {pair: [] for pair in pairs}
    sent = dict.fromkeys(["A", "B", "C"], 0)
    over = asyncio.Event()

    async def read(name: str, peer: Peer) -> None:
        here: dict[str, list[int]] = {sender: [] for sender, to in pairs if to == name}
        for sender, numbers in here.items():
            got[sender, name].append(numbers)
        with suppress(ConnectionClosed):
            while True:
                body = json.loads(await peer.ws.recv())
                if over.is_set():
                    return
                assert body["type"] == "count", body  # no notice, and no error
                here[body["from"]].append(body["n"])

    async def send(name: str) -> None:
        while sent[name] < total:
            for other in {"A", "B"} - {name}:
                with suppress(ConnectionClosed):  # it moves: the message is not repeated, sent or not
                    await seats[name].send_message("count", to=other, n=sent[name])
            sent[name] += 1
            await asyncio.sleep(0.005 if sent[name] % 20 == 0 else 0)

    async def move(name: str, tasks: asyncio.TaskGroup) -> None:
        for n in range(1, moves[name] + 1):
            while sent[name] < n * total // (moves[name] + 1):
                await asyncio.sleep(0.001)
            seats[name] = await back(trio[(n + moves[name]) % 3], name, f"key of {name}")
            tasks.create_task(read(name, seats[name]))

    async with joined(trio[2], "C") as c, asyncio.TaskGroup() as tasks:
        seats |= {"C": c, "A": await back(trio[1], "A", "key of A")}
        seats["B"] = await back(trio[0], "B", "key of B")
        assert [(await c.get())["peerId"] for _ in range(2)] == ["A", "B"]
        assert (await seats["A"].get())["peerId"] == "B"
        for name, peer in seats.items():
            tasks.create_task(read(name, peer))
        async with asyncio.timeout(3 * DEADLINE):
            await asyncio.gather(*map(send, "ABC"), *(move(name, tasks) for name in "AB"))
        await seats["A"].send_message("count", to="B", n=total)
        await seats["B"].send_message("count", to="A", n=total)
        await c.send_message("count", n=total)
        async with asyncio.timeout(3 * DEADLINE):
            while not all(numbers[-1][-1:] == [total] for numbers in got.values()):
                await asyncio.sleep(0.01)
        over.set()
        for peer in seats.values():
            await peer.ws.close()
    arrived = {pair: [*chain.from_iterable(numbers)] for pair, numbers in got.items()}
    for pair, numbers in arrived.items():
        assert all(a < b for a, b in pairwise(numbers)), f"{pair}: out of order, or twice"
        assert len(numbers) > total // 2, pair
    assert arrived["C", "A"] == arrived["C", "B"] == list(range(total + 1)), "C stays, so none is lost"


# --- failures -------------------------------------------------------------------------------------------------------


async def test_stopped_relay_entrusts_its_seats(ledger_redis: RedisServer) -> None:
    options = {"cluster": ledger_redis.url, "cluster_lease": LEASE}
    async with relay(**options) as one, relay(**options) as two, joined(two, "B") as b:
        async with relay(**options) as stopping, joined(stopping, "A", key="k") as a:
            assert (await b.get())["peerId"] == "A"
            async with joined(stopping, "old"):
                assert (await b.get())["peerId"] == "old"
                await stopping.stop()
                assert await a.closed() == 1001
        assert await b.get() == {"type": "peer-left", "peerId": "old"}
        await b.send_message("offer", to="A", n=1)
        await silence(b)
        a = await back(one, "A", "k")
        assert (await a.get())["n"] == 1
        await silence(a, b)
        await a.ws.close()


async def test_broken_redis_connections_lose_nothing(trio: Trio, ledger_redis: RedisServer) -> None:
    one, two, _ = trio
    async with joined(one, "A") as a, joined(two, "B") as b:
        assert (await a.get())["peerId"] == "B"
        with ledger_redis.client() as client:
            for n in range(200):
                await a.send_message("offer", to="B", n=n)
                if n % 40 == 0:
                    await asyncio.to_thread(client.client_kill_filter, _type="normal", skipme=True)
        assert [(await b.get())["n"] for _ in range(200)] == list(range(200))
        await silence(a, b)


async def test_redis_hanging_longer_than_the_lease_keeps_all_seats(own_redis: RedisServer) -> None:
    async with three_relays(own_redis.url) as (one, two, _):
        async with joined(one, "A") as a, joined(one, "L") as local, joined(two, "B") as b:
            for _ in range(2):
                await a.get()
            assert (await local.get())["peerId"] == "B"
            own_redis.freeze()
            until_when = asyncio.get_running_loop().time() + LEASE + 0.5
            n = 0
            while asyncio.get_running_loop().time() < until_when:  # local messages still pass
                await a.send_message("offer", to="L", n=n)
                assert (await local.get())["n"] == n
                n += 1
                await asyncio.sleep(0.05)
            assert one.why_not_ready() == "Redis is out of reach"
            await a.send_message("offer", to="B", n=-1)
            own_redis.thaw()
            assert (await b.get())["n"] == -1
            await until(lambda: one.why_not_ready() is None)
            await silence(a, b, local)


async def test_message_that_redis_delays_too_long_is_answered(own_redis: RedisServer) -> None:
    async with three_relays(own_redis.url) as (one, two, _), joined(one, "A") as a, joined(two, "B"):
        assert (await a.get())["peerId"] == "B"
        own_redis.kill()
        await until(lambda: one.why_not_ready() is not None)
        await a.send_message("offer", to="B", n=1)
        error = await a.get()
        assert (error["code"], error["to"]) == ("peer-not-found", "B") and "out of reach" in error["message"]
        own_redis.start()


async def test_restarted_redis_is_filled_without_notices(own_redis: RedisServer) -> None:
    async with three_relays(own_redis.url) as (one, two, three), AsyncExitStack() as stack:
        peers = []
        for n, where in enumerate((one, two, three)):
            peers.append(await stack.enter_async_context(joined(where, "ABC"[n], key="ABC"[n])))
        a, b, c = peers
        assert [(await a.get())["peerId"], (await a.get())["peerId"], (await b.get())["peerId"]] == ["B", "C", "C"]
        own_redis.kill()
        await until(lambda: all(relay.why_not_ready() is not None for relay in (one, two, three)))
        late = await stack.enter_async_context(opened(two))
        late.id = "D"
        await late.send({"type": "join", "peerId": "D"})  # waits
        own_redis.start()
        view = set((await late.get())["peers"])
        while view != {"A", "B", "C"}:
            notice = await late.get()
            assert notice["type"] == "peer-joined"
            view.add(notice["peerId"])
        for peer in (a, b, c):
            assert await peer.get() == {"type": "peer-joined", "peerId": "D"}
        await a.send_message("offer", to="C", n=1)
        assert (await c.get())["n"] == 1
        await silence(a, b, c, late)


async def test_owner_rejoins_without_redis_and_others_get_1013(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with three_relays(own_redis.url, join_timeout=0.5) as (one, two, _), joined(two, "B") as b:
        first = await Raw.join(one.port, "A", key="k")
        assert (await b.get())["peerId"] == "A"
        own_redis.kill()
        first.reset()
        await until(lambda: not one.sessions.clients)
        a = await back(one, "A", "k")
        async with opened(two) as late:
            await late.send({"type": "join", "peerId": "C"})
            assert await late.closed() == 1013
        own_redis.start()
        await a.send_message("offer", to="B", n=1)
        assert (await b.get())["n"] == 1
        await silence(a, b)
        await a.ws.close()
    assert any("out of reach" in record.getMessage() for record in caplog.records)


async def test_flushed_script_is_loaded_again(trio: Trio, ledger_redis: RedisServer) -> None:
    with ledger_redis.client() as client:
        client.script_flush()
    async with joined(trio[0], "A", peers=[]), joined(trio[1], "B", peers=["A"]):
        pass


async def test_stopped_relays_leave_only_the_clock_in_redis(own_redis: RedisServer) -> None:
    async with three_relays(own_redis.url) as (one, two, three):
        async with joined(one, "A", key="k"), joined(two, "B", room="attic"), joined(three, "C", key="l"):
            pass
    with own_redis.client() as client:
        assert client.keys("*") == [b"peer:v1:clock"]


def test_passwords_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    async def run(url: str) -> None:
        async with relay(cluster=url) as server, joined(server, "A", key="hunter3"):
            pass

    with redis_server("--requirepass", "hunter2") as server:
        asyncio.run(run(f"redis://:hunter2@127.0.0.1:{server.port}/3?prefix=x"))
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("server")]
    assert any(f"redis://127.0.0.1:{server.port}/3" in line for line in logged)
    assert not any("hunter2" in line for line in logged)


async def test_documented_redis_user_and_tls_suffice(tmp_path: Path) -> None:
    (user,) = re.findall(r"^user relay .*$", (ROOT / "docs" / "cluster.md").read_text(), re.MULTILINE)
    (tmp_path / "users.acl").write_text(f"{user}\nuser default on nopass ~* +@all\n")
    pem = certificate(tmp_path / "a.pem")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    tls = ("--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", pem)
    with redis_server("--aclfile", str(tmp_path / "users.acl"), *tls, "--tls-auth-clients", "no") as server:
        secure = f"rediss://relay:secret@localhost:{port}/0?cacert={pem}"
        plain = f"redis://relay:secret@127.0.0.1:{server.port}/0"
        async with relay(cluster=secure, cluster_lease=30.0) as one, relay(cluster=plain, cluster_lease=30.0) as two:
            async with joined(one, "A", key="k") as a, joined(two, "B", peers=["A"]) as b:
                assert (await a.get())["peerId"] == "B"
                await b.send_message("offer", to="A")
                assert (await a.get())["type"] == "offer"
                again = await back(two, "A", "k")
                await silence(again, b)
                await again.ws.close()
        with pytest.raises(RedisUnavailable, match="certificate"):
            await Relay(RelayConfig(port=0, cluster=f"rediss://relay:secret@localhost:{port}/0")).start()
