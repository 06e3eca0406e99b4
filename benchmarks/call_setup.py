"""Call setup time: from ``calling`` to ``first-frame``, between two peers on loopback, with the test source.

Our client and plain aiortc alternate, in two processes each: one answers, one calls. Plain aiortc is used as in its
examples: a track with the same frames, complete descriptions exchanged over a pipe, timed from
``RTCPeerConnection()`` to the first decoded frame.

``typed`` is the time a user waits: from starting the process ``peer call`` to its ``first-frame``.

    python benchmarks/call_setup.py [--calls 20] [--typed 5]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing as mp
import statistics
import sys
import time
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from stock_node import Shared

GOAL_MS = 150
TYPED_GOAL_MS = 1500


def bare_answerer(pipe: Connection) -> None:
    asyncio.run(_bare_answerer(pipe))


async def _bare_answerer(pipe: Connection) -> None:
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    media, track_of = await _open_source()
    loop = asyncio.get_running_loop()
    connections: list[Any] = []
    while (offer := await loop.run_in_executor(None, pipe.recv)) is not None:
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connections.append(connection)
        connection.addTrack(track_of())
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        pipe.send(connection.localDescription.sdp)
    for connection in connections:
        await connection.close()
    await media.close()


async def _open_source() -> tuple[Any, Any]:
    from peer.media.sources.local_media import open_sources
    from peer.media.sources.spec import parse_audio, parse_video

    media = await open_sources(parse_video("test"), parse_audio("none"), size=(640, 480), fps=30)
    assert media.video is not None
    return media, partial(Shared, media.video)


async def bare_call(pipe: Connection, track: Any) -> float:
    """Make one call with plain aiortc; return the seconds to the first decoded frame."""
    from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTrack(track)
    await connection.setLocalDescription(await connection.createOffer())
    pipe.send(connection.localDescription.sdp)
    answer = await loop.run_in_executor(None, pipe.recv)
    await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await connection.getReceivers()[0].track.recv()
    took = time.perf_counter() - started
    await connection.close()
    return took


def our_node(url: str, ready: Connection) -> None:
    asyncio.run(_our_node(url, ready))


async def _our_node(url: str, ready: Connection) -> None:
    from peer import Agent

    async with Agent("node", server=url, video="test", size=(640, 480)):
        ready.send(None)
        await asyncio.get_running_loop().run_in_executor(None, ready.recv)


async def typed_call(url: str) -> float:
    """Return the seconds from starting ``peer call`` to its first frame."""
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "peer", "call", "node", "--server", url, "--json", "--no-show"),
        *("--video", "test", "--audio", "none", "--speaker", "none", "--size", "640x480"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    async for line in process.stdout:
        if json.loads(line)["event"] == "first-frame":
            break
    took = time.perf_counter() - started
    process.terminate()
    await process.communicate()
    return took


async def measure(calls: int, typed: int) -> dict[str, list[float]]:
    from peer import Agent
    from server.config import RelayConfig
    from server.relay import Relay

    context = mp.get_context("spawn")
    relay = Relay(RelayConfig(port=0))
    await relay.start()
    url = f"ws://127.0.0.1:{relay.port}/ws"
    bare, bare_end = context.Pipe()
    ready, ready_end = context.Pipe()
    processes = [
        context.Process(target=bare_answerer, args=(bare_end,)),
        context.Process(target=our_node, args=(url, ready_end)),
    ]
    for process in processes:
        process.start()
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, ready.recv)
    times: dict[str, list[float]] = {"bare": [], "ours": [], "connected": []}
    media, track_of = await _open_source()
    async with Agent("caller", server=url, video="test", size=(640, 480)) as agent:
        await agent.wait_for("node", timeout=10)
        for _ in range(calls):
            times["bare"].append(await bare_call(bare, track_of()))
            started = time.perf_counter()
            async with agent.call("node") as call:
                times["connected"].append(time.perf_counter() - started)
                await call.first_frame(10)
                times["ours"].append(time.perf_counter() - started)
    times["typed"] = [await typed_call(url) for _ in range(typed)]
    bare.send(None)
    ready.send(None)
    for process in processes:
        await loop.run_in_executor(None, process.join)
    await media.close()
    await relay.stop()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--typed", type=int, default=5)
    arguments = parser.parse_args()
    times = asyncio.run(measure(arguments.calls, arguments.typed))
    medians = {name: round(statistics.median(seconds) * 1000, 1) for name, seconds in times.items()}
    ratio = round(medians["ours"] / medians["bare"], 2)
    print(json.dumps(medians | {"ratio": ratio, "goal_ms": GOAL_MS, "typed_goal_ms": TYPED_GOAL_MS}))


if __name__ == "__main__":
    main()
