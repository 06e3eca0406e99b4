"""Clients that send too many messages, bytes or broadcasts: errors, close codes, and nothing for the others."""

from __future__ import annotations

import asyncio

from .addresses import PROXIED, join
from .wire import Raw, frame, joined, relay, text


async def test_excess_messages_are_dropped_and_closed_with_4429() -> None:
    async with relay(message_rate=2) as server, joined(server, "A") as a:
        raw = await Raw.join(server.port, "flooder")
        assert (await a.get())["type"] == "peer-joined"
        for n in range(60):  # a burst is 20 messages, and the join was one of them
            raw.writer.write(text({"type": "offer", "from": "flooder", "to": "A", "n": n}))
        error = await raw.get()
        assert error["code"] == "rate-limited" and "at most 2 per second" in error["message"]
        assert [(await a.get())["n"] for _ in range(19)] == list(range(19))
        assert await a.get() == {"type": "peer-left", "peerId": "flooder"}
        assert await raw.closed() == 4429
        assert server.counters.limited["messages"] == 2
        await a.barrier()
        await raw.end()


async def test_client_that_slows_down_is_served_again() -> None:
    async with relay(message_rate=50) as server, joined(server, "A") as a, joined(server, "B") as b:
        assert (await a.get())["type"] == "peer-joined"
        for n in range(505):
            await b.send_message("offer", to="A", n=n)
        assert (await b.get())["code"] == "rate-limited"
        for _ in range(4):
            await asyncio.sleep(0.1)  # five messages' worth each
            await b.send_message("offer", to="A", n="again")
        while (await a.get())["n"] != "again":
            pass
        assert server.counters.closed[4429] == 0


async def test_excess_bytes_of_any_kind_are_closed_with_4429() -> None:
    async with relay(byte_rate=1000, max_frame=1024) as server, joined(server, "A") as a:
        for data in (
            frame(9, b"x" * 125) * 300,
            text({"type": "offer", "from": "flooder", "to": "A", "sdp": "x" * 30_000}),
            frame(1, b"x" * 500, fin=False) + frame(0, b"x" * 500, fin=False) * 60,
        ):
            raw = await Raw.join(server.port, "flooder")
            assert (await a.get())["type"] == "peer-joined"
            raw.writer.write(data + text({"type": "offer", "from": "flooder", "to": "A"}))
            assert await raw.closed() == 4429
            assert await a.get() == {"type": "peer-left", "peerId": "flooder"}
            await raw.end()
        await a.barrier()


async def test_excess_fragmented_message_is_dropped() -> None:
    async with relay(message_rate=1) as server, joined(server, "A") as a:
        raw = await Raw.join(server.port, "B")
        assert (await a.get())["type"] == "peer-joined"
        half = text({"type": "offer", "from": "B", "to": "A", "n": 1})
        raw.writer.write(half * 9)
        raw.writer.write(frame(1, b'{"type": "offer", "from": "B", ', fin=False) + frame(0, b'"to": "A", "n": 2}'))
        assert (await raw.get())["code"] == "rate-limited"
        raw.writer.write(frame(8, b"\x03\xe8"))
        assert [await a.get() for _ in range(10)][-1] == {"type": "peer-left", "peerId": "B"}
        assert await raw.closed() == 1000, "a close is read, however fast it follows"
        await raw.end()


async def test_excess_frames_before_the_join_close_with_4429() -> None:
    async with relay(message_rate=1) as server:
        raw = await Raw.open(server.port)
        raw.writer.write(frame(9) * 11)
        assert await raw.closed() == 4429
        await raw.end()


async def test_client_flooding_after_the_close_is_dropped() -> None:
    async with relay(message_rate=1) as server:
        raw = await Raw.join(server.port, "flooder")
        raw.writer.write(text({"type": "x", "from": "flooder"}) * 30)
        assert await raw.closed() == 4429
        assert await raw.rest() == b"", "it is half-closed, and not read any more"
        await raw.end()


async def test_address_rates_are_separate() -> None:
    async with relay(message_rate=4, address_message_rate=6, **PROXIED) as server:
        peers = [await join(server, "192.0.2.1", name) for name in "ab"]
        elsewhere = await join(server, "192.0.2.2", "c")
        for raw, name in zip(peers, "ab", strict=True):
            raw.writer.write(text({"type": "offer", "from": name, "to": "nobody"}) * 35)
        got = await peers[1].get()
        while got.get("code") != "rate-limited":
            got = await peers[1].get()
        assert "from your address" in got["message"]
        elsewhere.writer.write(text({"type": "offer", "from": "c", "to": "nobody"}))
        assert (await elsewhere.get())["code"] == "peer-not-found"
        assert server.counters.limited["address-messages"] == 1 and server.counters.limited["messages"] == 0
        for raw in (*peers, elsewhere):
            await raw.end()


async def test_excess_broadcasts_are_dropped_but_not_messages_to_one() -> None:
    async with relay(copy_rate=0.2) as server, joined(server, "A") as a, joined(server, "B") as b:
        assert (await a.get())["type"] == "peer-joined"
        for _ in range(3):
            await b.send_message("wave")
        assert (await b.get())["code"] == "rate-limited"
        await b.send_message("offer", to="A")
        assert [(await a.get())["type"] for _ in range(3)] == ["wave", "wave", "offer"]


async def test_thirty_browsers_of_one_address_exceed_no_limit() -> None:
    candidates = 12  # candidates per side and call; a laptop with VPN and Docker has about that many
    async with relay(**PROXIED) as server:
        names = [f"peer-{n:02}" for n in range(30)]
        peers = {name: await join(server, "192.0.2.1", name) for name in names}
        got = dict.fromkeys(names, 0)

        async def read(name: str, expected: int) -> None:
            while got[name] < expected:
                message = await peers[name].get()
                assert message["type"] in ("peer-joined", "offer", "answer", "candidate"), message
                got[name] += message["type"] != "peer-joined"

        async with asyncio.TaskGroup() as tasks:
            for name, raw in peers.items():
                tasks.create_task(read(name, 29 * (1 + candidates)))
                for other in names:
                    if other == name:
                        continue
                    kind = "offer" if name < other else "answer"
                    raw.writer.write(text({"type": kind, "from": name, "to": other, "sdp": "x" * 6000}))
                    raw.writer.write(text({"type": "candidate", "from": name, "to": other}) * candidates)
        assert not server.counters.limited
        for raw in peers.values():
            await raw.end()
