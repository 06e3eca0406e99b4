"""CPU of eight incoming calls without readers, compared with decoding them.

One process sends the same encoded video (720p30 VP8, 2.7 Mbit/s) and audio (Opus) into all calls. Three receivers
alternate, each in its own process: ``idle`` is ours without readers, ``decoding`` ours with readers of video and
audio, ``stock`` plain aiortc, which always decodes. Measured is the user and system time of the receiving process, in
percent of a core; ratios are taken within a round.

    python -m benchmarks.incoming [--calls 8] [--seconds 8] [--rounds 3] [--only idle]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing as mp
import statistics
import time
from multiprocessing.connection import Connection
from typing import Any

from peer.rtc.liveness import Liveness

GOAL = 0.25
SIZE, FPS, BITRATE = (1280, 720), 30, 2_700_000
SETTLE = 3.0
"""Seconds at the start of each call that are not counted: setup, first frame, first rise of the estimate."""


def send(pipe: Connection, calls: int) -> None:
    asyncio.run(_send(pipe, calls))


async def _send(pipe: Connection, calls: int) -> None:
    from aiortc import RTCSessionDescription

    from benchmarks.feed import AUDIO_CLOCK, VIDEO_CLOCK, EncodedTrack, encoded_audio, encoded_video, open_bare

    video, audio = encoded_video(*SIZE, FPS, BITRATE, 300), encoded_audio(500)
    pipe.send(sum(map(len, video)) * 8 * FPS / len(video))
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, pipe.recv) is not None:
        connections = []
        for _ in range(calls):
            connection = open_bare()
            connections.append(connection)
            connection.addTrack(EncodedTrack("video", video, FPS, VIDEO_CLOCK))
            connection.addTrack(EncodedTrack("audio", audio, 50, AUDIO_CLOCK))
            await connection.setLocalDescription(await connection.createOffer())
            pipe.send(connection.localDescription.sdp)
            answer = await loop.run_in_executor(None, pipe.recv)
            await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await loop.run_in_executor(None, pipe.recv)
        for connection in connections:
            await connection.close()
        pipe.send(None)


def receive(pipe: Connection, mode: str, calls: int, seconds: float) -> None:
    asyncio.run(_receive(pipe, mode, calls, seconds))


async def _receive(pipe: Connection, mode: str, calls: int, seconds: float) -> None:
    from aiortc import RTCSessionDescription

    loop = asyncio.get_running_loop()
    connections, counters, pumps = [], [], []
    for _ in range(calls):
        connection, call_counters, readers = _open(mode)
        offer = await loop.run_in_executor(None, pipe.recv)
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        call_counters(connection)
        await connection.setLocalDescription(await connection.createAnswer())
        pipe.send(connection.localDescription.sdp)
        connections.append(connection)
        counters.append(call_counters)
        pumps += [loop.create_task(_pump(reader)) for reader in readers(connection)]
    await asyncio.sleep(SETTLE)
    before, since, cpu = _frames(counters), time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    used, elapsed = time.process_time() - cpu, time.monotonic() - since
    frames = _frames(counters) - before
    pipe.send({"cpu": 100 * used / elapsed, "fps": frames / elapsed / calls})
    for pump in pumps:
        pump.cancel()
    await asyncio.gather(*(connection.close() for connection in connections))


async def _pump(reader: Any) -> None:
    with contextlib.suppress(Exception):
        while True:
            await reader()


def _frames(counters: list[Any]) -> int:
    return sum(counter.count() for counter in counters)


def _open(mode: str) -> tuple[Any, Any, Any]:
    """Return a connection, a hook to call once its tracks are known, and a function that returns the readers."""
    from benchmarks.feed import open_bare
    from peer.media.incoming.track import IncomingMedia
    from peer.rtc import aiortc_hooks
    from peer.rtc.receiver import Receiver

    if mode == "stock":
        counted = _Stock()
        return open_bare(), counted, lambda connection: counted.readers(connection)
    media = IncomingMedia(lambda first: None)

    class Ours:
        def __call__(self, connection: Any) -> None:
            aiortc_hooks.ignore_malformed_rtcp(connection)
            Liveness(connection)
            self.receiving = [
                Receiver(transceiver.receiver, media.track(transceiver.kind))
                for transceiver in connection.getTransceivers()
            ]

        def count(self) -> int:
            return media.video.counters.frames

    def readers(connection: Any) -> list[Any]:
        if mode == "idle":
            return []
        return [media.video.frames.read().get, media.audio.frames.read(50).get]

    return aiortc_hooks.open_peer_connection(), Ours(), readers


class _Stock:
    """A count of the frames that plain aiortc decodes."""

    def __init__(self) -> None:
        self.frames = 0

    def __call__(self, connection: Any) -> None:
        pass

    def count(self) -> int:
        return self.frames

    def readers(self, connection: Any) -> list[Any]:
        tracks = {receiver.track.kind: receiver.track for receiver in connection.getReceivers()}

        async def read_video() -> None:
            await tracks["video"].recv()
            self.frames += 1

        return [read_video, tracks["audio"].recv]


def measure(calls: int, seconds: float, rounds: int, modes: list[str]) -> dict[str, Any]:
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    sender = context.Process(target=send, args=(theirs, calls), daemon=True)
    sender.start()
    rate = ours.recv()
    results: dict[str, list[dict[str, float]]] = {mode: [] for mode in modes}
    for _ in range(rounds):
        for mode in modes:
            near, far = context.Pipe()
            receiver = context.Process(target=receive, args=(far, mode, calls, seconds), daemon=True)
            receiver.start()
            far.close()  # so that EOF is noticed
            ours.send(mode)
            for _ in range(calls):
                near.send(ours.recv())
                ours.send(near.recv())
            results[mode].append(near.recv())
            receiver.join()
            ours.send(None)
            ours.recv()
    ours.send(None)
    sender.join()
    results_by_mode: dict[str, Any] = {"calls": calls, "kbps": round(rate / 1000)}
    for mode, rows in results.items():
        results_by_mode[mode] = {key: round(statistics.median(row[key] for row in rows), 1) for key in rows[0]}
    for against in ("decoding", "stock"):
        if "idle" in results and against in results:
            pairs = zip(results["idle"], results[against], strict=True)
            results_by_mode[f"idle/{against}"] = round(statistics.median(a["cpu"] / b["cpu"] for a, b in pairs), 3)
    return results_by_mode | {"goal": GOAL}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=["idle", "decoding", "stock"])
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.calls, arguments.seconds, arguments.rounds, arguments.only)))


if __name__ == "__main__":
    main()
