"""CPU and memory that one offer costs until it is answered or refused, next to an ordinary one of Chromium.

    .venv/bin/python -m benchmarks.descriptions

Each text goes the whole way through a connection, as ``call_control`` opens it: validation, the engine, the answer,
and closing. The ratio to Chromium's offer in the same run is what counts; the goal is at most 3, and 2 MiB
(docs/benchmarks/descriptions.md).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from peer import negotiation as n
from peer.media.incoming.track import IncomingMedia
from peer.rtc.connection import Connection, ConnectionOptions
from peer.rtc.outgoing_tracks import OutgoingTracks
from peer.rtc.unbundled import UnbundledConnection, split_offer

CORPUS = Path(__file__).resolve().parents[1] / "tests/rtc/corpus"
ROUNDS = 15
HEAD = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\n"
    f"a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-256 {':'.join(['AA'] * 32)}\r\n"
)
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 97\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=rtcp-mux\r\na=rtpmap:97 VP8/90000\r\n"
AUDIO = VIDEO.replace("video", "audio").replace("VP8/90000", "opus/48000/2")


def bomb(line: Callable[[int], str], *, size: int = 60_000, most: int = 2_400) -> str:
    """An offer that repeats a line, up to ``size`` characters and ``most`` times."""
    lines = [HEAD + VIDEO]
    while len(lines) <= most and sum(map(len, lines)) < size:
        lines.append(f"{line(len(lines))}\r\n")
    return "".join(lines)


OFFERS = {
    "Chromium, audio and video": (CORPUS / "chromium-offer.sdp").read_text(),
    "Chromium, 24 sections": (CORPUS / "chromium-offer-24-sections.sdp").read_text(),
    "GStreamer, without BUNDLE": (CORPUS / "gstreamer-offer.sdp").read_text(),
    "Chromium, 24 sections without BUNDLE": re.sub(
        "a=group:BUNDLE.*\n", "", (CORPUS / "chromium-offer-24-sections.sdp").read_text()
    ),
    "rtpmap and rtcp-fb": bomb(lambda _: "a=rtpmap:97 a/1\r\na=rtcp-fb:97 x", most=1_200),
    "rtpmap and rtcp-fb:*": bomb(lambda number: "a=rtpmap:97 a/1" if number % 2 else "a=rtcp-fb:* x"),
    "fmtp": bomb(lambda _: "a=fmtp:97 a=1"),
    "ssrc": bomb(lambda number: f"a=ssrc:{number} cname:x"),
    "sections": bomb(lambda _: "m=video 9 RTP/AVP 96", most=250),
    "candidates": bomb(lambda number: f"a=candidate:{number} 1 udp 1 192.0.2.1 9 typ host"),
    "without BUNDLE": bomb(lambda number: VIDEO.strip() if number % 2 else AUDIO.strip(), most=250),
    "256 kB": bomb(lambda _: "a=rtpmap:97 a/1\r\na=rtcp-fb:97 x", size=256_000, most=10_000),
}


async def answer(offer: str) -> bool:
    """Answer ``offer`` on a connection of its own, and close it. Whether it was answered."""
    events: asyncio.Queue[n.Event] = asyncio.Queue()
    incoming = IncomingMedia(lambda _: None)
    arguments = (1, OutgoingTracks(), incoming, ConnectionOptions(), events.put_nowait)
    parts = split_offer(offer, ConnectionOptions())
    connection = UnbundledConnection(*arguments, parts) if parts else Connection(*arguments)
    async with asyncio.TaskGroup() as group:
        group.create_task(connection.run())
        connection.create_answer(offer)
        while not isinstance(event := await events.get(), n.AnswerCreated | n.DescriptionFailed):
            pass
        connection.close()
    return isinstance(event, n.AnswerCreated)


async def measure() -> None:
    rows = {}
    for name, offer in OFFERS.items():
        answered = await answer(offer)  # warms up
        seconds = []
        for _ in range(ROUNDS):
            begin = time.process_time()
            await answer(offer)
            seconds.append(time.process_time() - begin)
        gc.collect()
        tracemalloc.start()
        await answer(offer)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        rows[name] = (len(offer), statistics.median(seconds) * 1e3, peak / 2**20, answered)
    ordinary = next(iter(rows.values()))[1]
    print(f"load {os.getloadavg()[0]:.1f}")
    print(f"{'offer':36} {'characters':>10} {'CPU ms':>8} {'ratio':>6} {'peak MiB':>9}")
    for name, (size, milliseconds, peak, answered) in rows.items():
        outcome = "answered" if answered else "refused"
        print(f"{name:36} {size:10} {milliseconds:8.2f} {milliseconds / ordinary:6.2f} {peak:9.2f}  {outcome}")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    asyncio.run(measure())
