"""The rules of the protocol over real sockets, with well-behaved clients."""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.asyncio.client import connect

from .wire import DEADLINE, Raw, frame, join_crowd, joined, opened, relay, text, until


async def test_first_phase_of_the_original_protocol() -> None:
    async with relay() as server, joined(server, "A", peers=[]) as a, joined(server, "B", peers=["A"]) as b:
        assert await a.get() == {"type": "peer-joined", "peerId": "B"}
        async with joined(server, "C", peers=["A", "B"]):
            assert await a.get() == await b.get() == {"type": "peer-joined", "peerId": "C"}
        assert await a.get() == await b.get() == {"type": "peer-left", "peerId": "C"}


async def test_peer_list_of_an_empty_room_is_empty() -> None:
    async with relay() as server, opened(server) as peer:
        await peer.send({"type": "join", "peerId": "A"})
        assert await peer.text() == '{"type":"peer-list","peers":[]}'


async def test_offered_compression_is_declined() -> None:
    async with relay() as server, connect(server.url) as ws:
        assert ws.response is not None and "Sec-WebSocket-Extensions" not in ws.response.headers
        await ws.send('{"type":"join","peerId":"A"}')
        assert json.loads(await ws.recv()) == {"type": "peer-list", "peers": []}


@pytest.mark.parametrize(
    "sent",
    [
        '{"type":"offer","from":"A","to":"B","sdp":"v=0\\r\\n"}',
        ' {\t"to" : "B",\r\n "sdp":"", "from":"A","type":"answer"}\n',
        '{"type":"candidate","from":"A","to":"B","candidate":null}',
        '{"type":"hang-up","from":"\\u0041","to":"\\u0042"}',
        '{"type":"offer","to":"nobody","to":"B","from":"C","from":"A","x":1.0e+2,"x":"\\ud83d\\ude00 é 🛋"}',
        '{"type":"wave","from":"A","to":"B","n":12345678901234567890}',
        '{"type":"wave","from":"A"}',
        '{"type":"wave","from":"A","to":""}',
    ],
)
async def test_message_is_forwarded_unchanged(sent: str) -> None:
    async with relay() as server, joined(server, "A") as a, joined(server, "B") as b:
        await a.send(sent)
        assert await b.text() == sent


async def test_fragmented_message_arrives_whole() -> None:
    async with relay() as server, joined(server, "B") as b:
        data = '{"type":"offer","from":"C","to":"B","sdp":"éééééé"}'.encode()
        raw = await Raw.join(server.port, "C")
        pieces = [data[i : i + 7] for i in range(0, len(data), 7)]  # é is cut in two somewhere
        for i, piece in enumerate(pieces):
            raw.writer.write(frame(0 if i else 1, piece, fin=i == len(pieces) - 1))
            raw.writer.write(frame(9, b"between"))
        assert (await b.get())["peerId"] == "C"
        assert (await b.text()).encode() == data
        await raw.end()


async def test_hundreds_of_joins_give_complete_views() -> None:
    names = [f"id-{n:03}" for n in range(300)]
    async with relay() as server:
        peers = [await Raw.open(server.port) for _ in names]

        await join_crowd(peers, names)
        peers[0].writer.write(text({"type": "offer", "from": names[0], "to": "nobody"}))
        assert (await peers[0].get())["code"] == "peer-not-found"  # and no further notice
        for peer in peers:
            peer.reset()
        await until(lambda: not server.sessions.clients)


async def test_messages_between_two_peers_stay_in_order() -> None:
    async with relay() as server, joined(server, "A") as a, joined(server, "B") as b, joined(server, "C") as c:
        for n in range(500):
            await a.send_message("offer" if n % 3 else "wave", to="B" if n % 3 else None, n=n)
            if n % 50 == 0:
                await c.send_message("wave", n=-1)
        got = [body["n"] for body in [await b.get() for _ in range(1 + 500 + 10)] if body.get("from") == "A"]
        assert got == list(range(500))


async def test_rooms_are_separate() -> None:
    async with (
        relay() as server,
        joined(server, "A", room="attic", peers=[]) as a,
        joined(server, "A", room="cellar", peers=[]) as other,
        joined(server, "B", room="attic", peers=["A"]) as b,
        joined(server, "A", peers=[]) as nowhere,
    ):
        assert (await a.get())["peerId"] == "B"
        await b.send_message("wave")
        assert (await a.get())["type"] == "wave"
        await other.barrier()
        await nowhere.barrier()


# --- rule 3 -------------------------------------------------------------------------------------------------------


async def test_same_key_takes_the_seat() -> None:
    async with relay() as server, joined(server, "B") as b, joined(server, "A", key="k") as old:
        assert (await b.get())["peerId"] == "A"
        async with joined(server, "A", peers=["B"], key="k") as new:
            assert await old.closed() == 4001
            await b.send_message("offer", to="A", sdp="x")
            assert (await new.get())["type"] == "offer"
            await b.barrier()


async def test_other_process_with_the_key_leaves_and_joins() -> None:
    async with relay() as server, joined(server, "B") as b, joined(server, "A", key="k", instance="1") as old:
        assert await b.get() == {"type": "peer-joined", "peerId": "A", "instance": "1"}
        async with opened(server) as new:
            new.id = "A"
            await new.send({"type": "join", "peerId": "A", "key": "k", "instance": "2"})
            assert await new.get() == {"type": "peer-list", "peers": ["B"]}
            assert await old.closed() == 4001
            assert await b.get() == {"type": "peer-left", "peerId": "A"}
            assert await b.get() == {"type": "peer-joined", "peerId": "A", "instance": "2"}
            async with opened(server) as third:
                await third.send({"type": "join", "peerId": "C"})
                assert await third.get() == {"type": "peer-list", "peers": ["B", "A"], "instances": {"A": "2"}}


@pytest.mark.parametrize("keys", [(None, None), ("k", None), (None, "k"), ("k", "other")])
async def test_live_peer_keeps_its_id(keys: tuple[str | None, str | None]) -> None:
    async with relay() as server, joined(server, "A", key=keys[0]) as a, opened(server) as late:
        await late.send({"type": "join", "peerId": "A", "key": keys[1]})
        assert (await late.get())["code"] == "id-taken"
        assert await late.closed() == 4409
        await a.barrier()


async def test_dead_peer_loses_its_id_to_a_claim() -> None:
    async with relay(takeover_ping=0.2) as server, joined(server, "B") as b:
        dead = await Raw.join(server.port, "A")  # answers no ping
        assert (await b.get())["type"] == "peer-joined"
        async with joined(server, "A", peers=["B"]) as new:
            assert [await b.get(), await b.get()] == [
                {"type": "peer-left", "peerId": "A"},
                {"type": "peer-joined", "peerId": "A"},
            ]
            await new.barrier()
            assert await dead.closed() == 4001
        await dead.end()


async def test_messages_sent_while_claiming_are_not_lost() -> None:
    async with relay(takeover_ping=0.2) as server, joined(server, "B") as b:
        dead = await Raw.join(server.port, "A")
        raw = await Raw.open(server.port)
        raw.writer.write(text({"type": "join", "peerId": "A"}) + text({"type": "offer", "from": "A", "to": "B"}))
        assert [(await b.get())["type"] for _ in range(4)] == ["peer-joined", "peer-left", "peer-joined", "offer"]
        await raw.end()
        await dead.end()


async def test_one_of_a_hundred_claims_gets_the_id() -> None:
    async with relay() as server, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(opened(server)) for _ in range(100)]
        for peer in peers:
            await peer.send({"type": "join", "peerId": "A"})
        got = [await peer.get() for peer in peers]
        assert sorted(body.get("code", "in") for body in got) == ["id-taken"] * 99 + ["in"]


# --- rule 4, 5, 8 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"type": "offer", "from": "B", "to": "B", "sdp": "x"}, "from-mismatch"),
        ({"type": "offer", "to": "B", "sdp": "x"}, "from-mismatch"),
        ({"type": "offer", "from": 5, "to": "B"}, "from-mismatch"),
        ({"type": "wave", "from": "B"}, "from-mismatch"),
        ({"type": "peer-left", "from": "A", "peerId": "B"}, "bad-message"),
        ({"type": "peer-joined", "from": "A", "peerId": "X", "to": "B"}, "bad-message"),
        ({"type": "peer-list", "from": "A", "peers": []}, "bad-message"),
        ({"type": "error", "from": "A", "to": "B", "code": "id-taken"}, "bad-message"),
        ({"type": "join", "peerId": "A"}, "bad-message"),
        ({"type": "offer", "from": "A", "sdp": "x"}, "bad-message"),
        ({"type": "offer", "from": "A", "to": "", "sdp": "x"}, "bad-message"),
        ({"type": "wave", "from": "A", "to": 5}, "bad-message"),
        ({"type": "offer", "from": "A", "to": "gone", "sdp": "x"}, "peer-not-found"),
        ({"type": "offer", "from": "A", "to": "A", "sdp": "x"}, "peer-not-found"),
        ({"from": "A", "to": "B"}, "bad-message"),
        ({"type": ["offer"], "from": "A", "to": "B"}, "bad-message"),
        ([], "bad-message"),
        ("{", "bad-message"),
        ("", "bad-message"),
        ("[" * 100_000, "bad-message"),
        (b"{}", "bad-message"),
        ('{"type":"wave","from":"A","x":NaN}', "bad-message"),
        ("x" * 300_000, "too-large"),
    ],
)
async def test_invalid_message_is_answered_and_dropped(sent: Any, code: str) -> None:
    async with relay() as server, joined(server, "A") as a, joined(server, "B") as b:
        assert (await a.get())["type"] == "peer-joined"
        await a.send(sent)
        error = await a.get()
        assert (error["type"], error["code"]) == ("error", code) and error["message"]
        if code == "peer-not-found":
            assert error["to"] == sent["to"]
        await b.barrier()
        await a.send_message("offer", to="B", sdp="x")
        assert (await b.get())["from"] == "A"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ("{", "bad-join"),
        ({"type": "offer", "from": "A", "to": "B"}, "bad-join"),
        ({"type": "join"}, "bad-join"),
        ({"type": "join", "peerId": "a b"}, "bad-join"),
        ({"type": "join", "peerId": "A", "room": "no/room"}, "bad-join"),
        (b'{"type":"join","peerId":"A"}', "bad-join"),
        ({"type": "join", "peerId": "A", "filler": "x" * 9000}, "too-large"),
    ],
)
async def test_invalid_join_is_answered_and_closed(sent: Any, code: str) -> None:
    async with relay() as server, joined(server, "B") as b, opened(server) as peer:
        await peer.send(sent)
        assert (await peer.get())["code"] == code
        assert await peer.closed() == 4400
        await b.barrier()


@pytest.mark.parametrize("invalid", [b'{"type":"\xff"}', b"\xed\xa0\x80", b"\xc3"])
@pytest.mark.parametrize("joined_first", [True, False])
async def test_invalid_utf8_fails_the_connection(invalid: bytes, joined_first: bool) -> None:
    async with relay() as server, joined(server, "B") as other:
        raw = await (Raw.join if joined_first else Raw.open)(server.port, *(["A"] if joined_first else []))
        raw.writer.write(text(invalid))
        opcode, payload = await raw.frame()
        assert opcode == 8 and payload.startswith((1007).to_bytes(2))
        if joined_first:
            assert [(await other.get())["type"] for _ in range(2)] == ["peer-joined", "peer-left"]
        await raw.end()


@pytest.mark.parametrize("opcode", [1, 2, 0])
async def test_length_with_its_first_bit_set_fails_the_connection(opcode: int) -> None:
    async with relay() as server:
        raw = await Raw.join(server.port, "A")
        raw.writer.write(bytes((0x80 | opcode, 0xFF)) + (1 << 63).to_bytes(8) + bytes(4) + b"more")
        received, payload = await raw.frame()
        assert received == 8 and payload.startswith((1002).to_bytes(2))
        await raw.end()


async def test_second_of_two_messages_does_not_wait_for_an_ack() -> None:
    """With Nagle's algorithm, the second write would wait for the delayed ACK of the first: 39 of 40 ms."""
    async with relay() as server, joined(server, "A") as a:
        b = await Raw.join(server.port, "B")
        assert (await a.get())["type"] == "peer-joined"
        loop, gaps = asyncio.get_running_loop(), []
        for number in range(15):
            await a.send_message("wave", to="B", n=number)
            await b.get()
            first = loop.time()
            await a.send_message("wave", to="B", n=number)
            await b.get()
            gaps.append(loop.time() - first)
        assert statistics.median(gaps) < 0.025
        assert all(
            client._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            for client in server.sessions.clients
        )
        await b.end()


# --- rule 6 -------------------------------------------------------------------------------------------------------


async def test_dropped_peer_with_a_key_keeps_its_seat_and_queue() -> None:
    async with relay() as server, joined(server, "B") as b:
        first = await Raw.join(server.port, "A", key="k")
        assert (await b.get())["type"] == "peer-joined"
        first.reset()
        await until(lambda: len(server.sessions.clients) == 1)
        for n in range(3):
            await b.send_message("offer", to="A", n=n)
        await b.barrier()
        async with joined(server, "A", peers=["B"], key="k") as a:
            assert [(await a.get())["n"] for _ in range(3)] == [0, 1, 2]
            await b.barrier()


@pytest.mark.parametrize("key", [None, "k"])
async def test_clean_close_frees_the_seat_at_once(key: str | None) -> None:
    async with relay() as server, joined(server, "B") as b:
        async with joined(server, "A", key=key):
            assert (await b.get())["type"] == "peer-joined"
        assert await b.get() == {"type": "peer-left", "peerId": "A"}


async def test_reset_without_a_key_frees_the_seat_at_once() -> None:
    async with relay() as server, joined(server, "B") as b:
        raw = await Raw.join(server.port, "A")
        assert (await b.get())["type"] == "peer-joined"
        raw.reset()
        assert await b.get() == {"type": "peer-left", "peerId": "A"}


async def test_seat_is_freed_at_the_end_of_grace() -> None:
    async with relay(grace=0.2) as server, joined(server, "B") as b:
        raw = await Raw.join(server.port, "A", key="k")
        assert (await b.get())["type"] == "peer-joined"
        before = time.monotonic()
        raw.reset()
        assert await b.get() == {"type": "peer-left", "peerId": "A"}
        assert time.monotonic() - before >= 0.2


# --- rule 7, keep-alive, time limits ------------------------------------------------------------------------------


async def test_half_open_connection_is_detected_by_pings() -> None:
    async with relay(ping_interval=0.2) as server, joined(server, "B") as b:
        before = time.monotonic()
        silent = await Raw.join(server.port, "A")
        assert (await b.get())["type"] == "peer-joined"
        assert await b.get() == {"type": "peer-left", "peerId": "A"}
        assert time.monotonic() - before < DEADLINE / 2
        await b.barrier()  # it answers pings, so it stays
        await silent.end()


@pytest.mark.parametrize("sent", [b"", b"GET /ws HTT"])
async def test_slow_handshake_times_out(sent: bytes) -> None:
    async with relay(join_timeout=0.2) as server:
        raw = await Raw.connect(server.port)
        raw.writer.write(sent)
        assert (await raw.rest()).startswith(b"HTTP/1.1 408 ")
        await raw.end()


@pytest.mark.parametrize("drip", [b"", b"\x81\xfe"])
async def test_client_that_does_not_join_in_time_is_closed(drip: bytes) -> None:
    async with relay(join_timeout=0.2) as server:
        raw = await Raw.open(server.port)
        raw.writer.write(drip)
        assert (await raw.get())["code"] == "bad-join"
        assert await raw.closed() == 4400
        await raw.end()


async def test_stop_closes_clients_without_notices() -> None:
    async with relay() as server, joined(server, "A") as a, joined(server, "B") as b:
        assert (await a.get())["type"] == "peer-joined"
        await server.stop()
        for peer in (a, b):
            with pytest.raises(Exception, match=r"1001.*shutting down"):
                await peer.text()
