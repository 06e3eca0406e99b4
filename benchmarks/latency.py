"""Receive latency from drawing a frame to its delivery, VGA on loopback; the same under loss; and lip sync.

Plain aiortc sends frames that we draw and encode in real time; each contains the time at which it was drawn. Our
client and plain aiortc receive them alternately, each in its own process. Loss is applied at the sender's socket, in
both directions, to RTP and RTCP only, by a seeded generator. ``skew`` measures a complete call of ours: the delay of
the test pattern's flash relative to its beep.

    python -m benchmarks.latency [--seconds 10] [--rounds 1] [--loss 0.02] [--only latency loss burst skew]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing as mp
import random
import statistics
import time
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

GOALS_MS = {30: 15, 10: 20}
SIZE, BITRATE = (640, 480), 1_000_000
SETTLE = 2.0
"""Seconds at the start of each call that are not counted."""

BURST = 1.0
"""Seconds of total loss; the longest pause exceeds it by the recovery time."""

CASES = tuple(itertools.product(("vp8", "h264"), (30, 10)))


def _encoder(codec: str, fps: int) -> Any:
    import av

    encoder: Any = av.CodecContext.create("libvpx" if codec == "vp8" else "libx264", "w")
    encoder.width, encoder.height = SIZE
    encoder.pix_fmt, encoder.time_base, encoder.framerate = "yuv420p", Fraction(1, fps), Fraction(fps)
    encoder.bit_rate, encoder.gop_size, encoder.thread_count = BITRATE, 3000, 1
    encoder.options = (
        {"deadline": "realtime", "cpu-used": "-8", "lag-in-frames": "0"}
        if codec == "vp8"
        else {"preset": "ultrafast", "tune": "zerolatency", "profile": "baseline"}
    )
    return encoder


def _live_track(codec: str, fps: int) -> Any:
    import av
    from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

    from peer.media.test_pattern import Pattern

    class Live(MediaStreamTrack):
        """A test pattern, each frame drawn and encoded when it is due; a key frame on request."""

        kind = "video"
        key = False

        def __init__(self) -> None:
            super().__init__()
            self._pattern, self._encoder = Pattern(*SIZE, fps), _encoder(codec, fps)
            self._number, self._started = 0, time.monotonic()

        async def recv(self) -> Any:
            if self.readyState != "live":
                raise MediaStreamError
            await asyncio.sleep(max(0.0, self._started + self._number / fps - time.monotonic()))
            frame: Any = self._pattern.draw(self._number)
            frame.pict_type = av.video.frame.PictureType.I if self.key else av.video.frame.PictureType.NONE
            self.key = False
            frame.pts, frame.time_base = self._number, Fraction(1, fps)
            (coded,) = self._encoder.encode(frame)
            packet = av.Packet(bytes(coded))
            packet.pts, packet.time_base = self._number * (90_000 // fps), Fraction(1, 90_000)
            self._number += 1
            return packet

    return Live()


def send(pipe: Connection) -> None:
    asyncio.run(_send(pipe))


async def _send(pipe: Connection) -> None:
    from aiortc import RTCRtpSender, RTCSessionDescription

    from benchmarks.feed import open_bare

    loop = asyncio.get_running_loop()
    while (wish := await loop.run_in_executor(None, pipe.recv)) is not None:
        codec, fps, loss, burst, seed = wish
        connection, track = open_bare(), _live_track(codec, fps)
        transceiver = connection.addTransceiver(track, direction="sendonly")
        known = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([c for c in known if c.name.lower() in (codec, "rtx")])
        sender: Any = transceiver.sender
        sender._send_keyframe = lambda track=track: setattr(track, "key", True)
        await connection.setLocalDescription(await connection.createOffer())
        pipe.send(connection.localDescription.sdp)
        answer = await loop.run_in_executor(None, pipe.recv)
        _lose(sender.transport.transport._connection, loss, burst, random.Random(seed))
        await connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await loop.run_in_executor(None, pipe.recv)
        await connection.close()
        pipe.send(None)


def _lose(ice: Any, loss: float, burst: float, chance: random.Random) -> None:
    """Drop media and reports at the sockets, both ways; ICE and DTLS get through. ``burst``: seconds in which all are
    dropped, once."""
    begin = time.monotonic() + SETTLE + 3

    def lost(data: bytes) -> bool:
        if not 127 < data[0] < 192:
            return False
        return begin <= time.monotonic() < begin + burst or chance.random() < loss

    for protocol in ice._protocols:
        received, sent = protocol.datagram_received, protocol.send_data

        def come(data: bytes, address: Any, received: Any = received) -> None:
            if not lost(data):
                received(data, address)

        async def go(data: bytes, address: Any, sent: Any = sent) -> None:
            if not lost(data):
                await sent(data, address)

        protocol.datagram_received, protocol.send_data = come, go


def receive(pipe: Connection, ours: bool, seconds: float) -> None:
    asyncio.run(_receive(pipe, ours, seconds))


async def _receive(pipe: Connection, ours: bool, seconds: float) -> None:
    from aiortc import RTCSessionDescription

    from benchmarks.feed import open_bare
    from peer.media.incoming.track import IncomingMedia
    from peer.media.test_pattern import read_pattern
    from peer.rtc import aiortc_hooks
    from peer.rtc.receiver import Receiver

    loop = asyncio.get_running_loop()
    connection = aiortc_hooks.open_peer_connection() if ours else open_bare()
    offer = await loop.run_in_executor(None, pipe.recv)
    await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    receiver = connection.getReceivers()[0]
    if ours:
        media = IncomingMedia(lambda first: None)
        receiving = Receiver(receiver, media.video)
        following = media.video.frames.read().get
    else:
        following = receiver.track.recv
    await connection.setLocalDescription(await connection.createAnswer())
    pipe.send(connection.localDescription.sdp)
    ages: list[float] = []
    shown: list[float] = []
    started: float | None = None
    with contextlib.suppress(TimeoutError):
        while started is None or time.monotonic() < started + SETTLE + seconds:
            async with asyncio.timeout(SETTLE + seconds):
                frame: Any = await following()
            now, moment = time.time(), time.monotonic()
            started = started or moment
            reading = read_pattern(frame.to_ndarray()[: frame.height])
            if reading is not None and moment > started + SETTLE:
                ages.append(reading.age(now))
                shown.append(moment)
    frozen = max(later - sooner for sooner, later in itertools.pairwise(shown))
    figures = {"median_ms": statistics.median(ages) * 1000, "p95_ms": statistics.quantiles(ages, n=20)[-1] * 1000}
    figures |= {"longest_pause_ms": frozen * 1000, "fps": len(shown) / seconds}
    if ours:
        figures["lost"] = receiving.lost / max(receiving.lost + receiving.received, 1)
        counters = media.video.counters
        figures |= {"lost_frames": counters.lost, "decoder_dropped": counters.decoder_dropped}
        figures["skipped"] = counters.skipped
    pipe.send({name: round(value, 3) for name, value in figures.items()})
    await connection.close()


def measure(
    cases: list[tuple[str, int]], seconds: float, rounds: int, *, loss: float = 0.0, burst: float = 0.0
) -> dict[str, Any]:
    context = mp.get_context("spawn")
    near, far = context.Pipe()
    sender = context.Process(target=send, args=(far,), daemon=True)
    sender.start()
    report: dict[str, Any] = {}
    for codec, fps in cases:
        rows: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
        for seed in range(rounds):
            for name, results in rows.items():
                ours, theirs = context.Pipe()
                receiver = context.Process(target=receive, args=(theirs, name == "ours", seconds), daemon=True)
                receiver.start()
                theirs.close()  # so that EOF is noticed
                near.send((codec, fps, loss, burst, seed))
                ours.send(near.recv())
                near.send(ours.recv())
                results.append(ours.recv())
                near.send(None)
                near.recv()
                receiver.join()
        report[f"{codec} {fps} fps"] = {
            name: {key: round(statistics.median(row[key] for row in results), 3) for key in results[0]}
            for name, results in rows.items()
        }
    near.send(None)
    sender.join()
    return report


# --- lip sync ---


def node(url: str, pipe: Connection) -> None:
    asyncio.run(_node(url, pipe))


async def _node(url: str, pipe: Connection) -> None:
    from peer import Agent

    async with Agent("node", server=url, video="test", audio="test", size=SIZE):
        pipe.send(None)
        await asyncio.get_running_loop().run_in_executor(None, pipe.recv)


async def skew(seconds: float) -> dict[str, float]:
    """Return the delay of the flash relative to the beep, in milliseconds."""
    from peer import Agent
    from server.config import RelayConfig
    from server.relay import Relay

    relay = Relay(RelayConfig(port=0))
    await relay.start()
    url = f"ws://127.0.0.1:{relay.port}/ws"
    context = mp.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=node, args=(url, far))
    process.start()
    await asyncio.get_running_loop().run_in_executor(None, near.recv)
    async with Agent("ear", server=url, video="none", audio="none") as agent:
        await agent.wait_for("node", timeout=20)
        async with agent.call("node", timeout=20) as call:
            flashes, audio = await _watch(call, seconds)
    near.send(None)
    process.join()
    await relay.stop()
    beeps = _beeps(audio)
    late = [min((flash - beep for beep in beeps), key=abs) * 1000 for flash in flashes if beeps]
    late = [one for one in late if abs(one) < 500]
    return {
        "seen": len(late),
        "median_ms": round(statistics.median(late), 1),
        "worst_ms": round(sorted(late, key=lambda one: one * one)[-1], 1),
    }


async def _watch(call: Any, seconds: float) -> tuple[list[float], list[tuple[float, Any]]]:
    """Return the time of each flash, and each audio frame with its delivery time."""
    from peer.media.test_pattern import read_pattern

    flashes: list[float] = []
    audio: list[tuple[float, Any]] = []

    async def look() -> None:
        before = True
        async for frame in call.frames():
            now = time.monotonic()
            reading = read_pattern(frame.to_ndarray()[: frame.height])
            if reading is not None:
                if reading.flash and not before:
                    flashes.append(now)
                before = reading.flash

    async def listen() -> None:
        async for frame in call.sound():
            audio.append((time.monotonic(), frame.to_ndarray().reshape(-1, 2)[:, 0]))

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
            group.create_task(look())
            group.create_task(listen())
    return flashes, audio


def _beeps(audio: list[tuple[float, Any]]) -> list[float]:
    """Return the delivery time of each beep's onset."""
    import numpy as np

    from peer.media.frames import AUDIO_RATE
    from peer.media.test_pattern import beep_onsets

    starts = np.cumsum([0, *(len(samples) for _, samples in audio)])
    onsets = []
    for onset in beep_onsets(np.concatenate([samples for _, samples in audio])):
        at = int(np.searchsorted(starts, onset * AUDIO_RATE + AUDIO_RATE // 500, side="right")) - 1
        onsets.append(audio[at][0] + onset - starts[at] / AUDIO_RATE)
    return onsets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--loss", type=float, default=0.02)
    parser.add_argument("--only", nargs="*", default=["latency", "loss", "burst", "skew"])
    arguments = parser.parse_args()
    seconds, rounds = arguments.seconds, arguments.rounds
    at_30 = [case for case in CASES if case[1] == 30]
    report: dict[str, Any] = {"goals_ms": GOALS_MS}
    if "latency" in arguments.only:
        report["latency"] = measure(list(CASES), seconds, rounds)
    if "loss" in arguments.only:
        report[f"loss {arguments.loss}"] = measure(at_30, seconds, rounds, loss=arguments.loss)
    if "burst" in arguments.only:
        report[f"all lost for {BURST} s"] = measure(at_30, seconds, rounds, burst=BURST)
    if "skew" in arguments.only:
        report["skew"] = asyncio.run(skew(seconds))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
