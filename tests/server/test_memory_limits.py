"""Clients that make the relay hold data: the memory budget, and the queues of seats in grace."""

from __future__ import annotations

from typing import Any

from .wire import DEADLINE, Peer, Raw, frame, joined, relay, text, until


async def test_largest_holders_are_closed_when_memory_runs_out() -> None:
    async with relay(max_buffers=2 << 20, byte_rate=0, close_timeout=2) as server, joined(server, "A") as a:
        stalled = [await Raw.join(server.port, f"stalled-{n}", receive_buffer=4096) for n in range(8)]
        for raw in stalled:
            assert (await a.get())["type"] == "peer-joined"
            raw.stall()
        bystander = await Raw.join(server.port, "bystander")
        most = 0
        left: list[str] = []
        while len(left) < 4:  # the kernel's buffers take some megabytes before the relay's fill
            for n in range(8):
                await a.send_message("offer", to=f"stalled-{n}", sdp="x" * (60_000 if n else 500))
            while (body := await a_message(a)) is not None:
                if body["type"] == "peer-left":
                    left.append(body["peerId"])
            most = max(most, server.sessions.memory_budget.used)
        assert most <= 2 << 20
        assert "stalled-0" not in left, "one that holds little stays"
        bystander.writer.write(text({"type": "offer", "from": "bystander", "to": "A"}))
        while (await a.get())["type"] != "offer":
            pass
        first = stalled[int(left[0].removeprefix("stalled-"))]
        first.resume()
        assert await first.closed() == 4408
        for raw in (*stalled, bystander):
            raw.reset()
        await until(lambda: len(server.sessions.clients) == 1)
        assert server.sessions.memory_budget.used == 0


async def a_message(peer: Peer) -> dict[str, Any] | None:
    """Return the messages received so far."""
    await peer.send_message("offer", to="nobody")
    body = await peer.get()
    return None if body.get("to") == "nobody" else body


async def test_endless_frames_count_and_are_closed() -> None:
    async with relay(max_buffers=1 << 20) as server, joined(server, "A") as a:
        drips = [await Raw.join(server.port, f"drip-{n}") for n in range(8)]
        for raw in drips:
            assert (await a.get())["type"] == "peer-joined"
            raw.writer.write(b"\x81\xff" + (250_000).to_bytes(8) + bytes(4 + 200_000))
        for _ in range(8 - 3):  # three quarters of a megabyte have room for three of them
            assert (await a.get())["type"] == "peer-left"
        assert 0 < server.sessions.memory_budget.used <= 1 << 20
        await a.barrier()
        for raw in drips:
            raw.reset()
        await until(lambda: len(server.sessions.clients) == 1)
        assert server.sessions.memory_budget.used == 0


async def test_partial_requests_and_messages_count_until_they_end() -> None:
    async with relay() as server:
        head = await Raw.connect(server.port)
        head.writer.write(b"GET /" + b"x" * 5000)
        await until(lambda: server.sessions.memory_budget.used == 5005)
        half = await Raw.join(server.port, "half")
        half.writer.write(frame(1, b"x" * 3000, fin=False))
        await until(lambda: server.sessions.memory_budget.used == 8005)
        half.writer.write(frame(0, b"x"))
        assert (await half.get())["code"] == "bad-message"
        await until(lambda: server.sessions.memory_budget.used == 5005)
        await head.end()
        await until(lambda: server.sessions.memory_budget.used == 0)
        await half.end()


async def test_queues_of_all_seats_in_grace_are_bounded() -> None:
    async with relay(max_buffers=1 << 20, grace=DEADLINE, max_seat_queue=200_000) as server, joined(server, "A") as a:
        for name in ("x", "y"):
            raw = await Raw.join(server.port, name, key="k")
            assert (await a.get())["type"] == "peer-joined"
            raw.reset()
            await until(lambda: len(server.sessions.clients) == 1)
            await a.send_message("offer", to=name, sdp="x" * 150_000)
        error = await a.get()
        assert (error["code"], error["to"]) == ("peer-not-found", "y")
        assert 150_000 < server.sessions.rooms.queued < 1 << 18
        async with joined(server, "x", key="k") as x:
            assert (await x.get())["type"] == "offer"
            assert server.sessions.rooms.queued == 0
