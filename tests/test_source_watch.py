"""Losses and returns of our sources: events, and messages to the viewers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from peer import events as ev
from peer.errors import MediaError
from peer.media.fanout import Fanout
from peer.media.sources.local_media import SourceBack, SourceLost
from peer.signaling.messages import Source as Message
from peer.source_watch import SourceWatch
from tests.waiting import until

GONE = MediaError("rtsp://camera", "it is gone", "look for it", cause="gone")


class FakeSource:
    """Stands in for ``Source``."""

    name = "rtsp://camera"
    kinds = ("video", "audio")

    def __init__(self) -> None:
        self.lost: MediaError | None = None
        self.failures: Fanout[SourceLost | SourceBack] = Fanout()

    def lose(self) -> None:
        self.lost = GONE
        self.failures.put(SourceLost(self.name, GONE))

    def recover(self, seconds: float) -> None:
        self.lost = None
        self.failures.put(SourceBack(self.name, seconds))


class Bench:
    def __init__(self) -> None:
        self.source = FakeSource()
        self.events: list[dict[str, Any]] = []
        self.sent: list[Any] = []
        self.viewers = ["a", "b"]
        sources: Any = [self.source]
        self.watch = SourceWatch(
            sources, "me", publish=self._publish, send=self.sent.append, viewers=lambda: self.viewers
        )

    def _publish(self, event: ev.Event) -> None:
        body = event.to_json()
        del body["time"]
        self.events.append(body)


async def test_loss_and_return_reach_events_and_viewers(caplog: pytest.LogCaptureFixture) -> None:
    b = Bench()
    async with asyncio.TaskGroup() as tasks:
        b.watch.start(tasks)
        await until(lambda: b.source.failures.readers)
        b.source.lose()
        await until(lambda: b.events)
        assert b.sent == [Message("me", peer, kind, "gone") for peer in ("a", "b") for kind in ("video", "audio")]
        b.sent.clear()
        b.source.recover(3.14)
        await until(lambda: len(b.events) == 2)
        assert b.sent == [Message("me", peer, kind, None) for peer in ("a", "b") for kind in ("video", "audio")]
        b.source.failures.close()
    what = {"source": "rtsp://camera", "kinds": ["video", "audio"]}
    assert b.events == [
        {"event": "source-lost", "cause": "gone", "message": "rtsp://camera: it is gone; look for it"} | what,
        {"event": "source-back", "seconds": 3.1} | what,
    ]
    assert caplog.messages == [
        "rtsp://camera: it is gone; look for it",
        "rtsp://camera works again after 3.1 s",
    ]


async def test_source_that_was_lost_before_is_reported_at_the_start() -> None:
    b = Bench()
    b.source.lost = GONE
    async with asyncio.TaskGroup() as tasks:
        b.watch.start(tasks)
        await until(lambda: b.events)
        b.source.failures.close()
    assert [event["event"] for event in b.events] == ["source-lost"]


def test_new_viewer_is_told_what_is_lost() -> None:
    b = Bench()
    b.watch.on_event(ev.Connected(peer="c", setup_ms=1))
    assert b.sent == []
    b.source.lost = GONE
    b.watch.on_event(ev.Connected(peer="c", setup_ms=1))
    assert b.sent == [Message("me", "c", "video", "gone"), Message("me", "c", "audio", "gone")]


def test_viewers_are_told_all_after_an_outage_of_the_relay() -> None:
    b = Bench()
    b.viewers = ["a"]
    b.watch.on_event(ev.ServerBack())
    assert b.sent == [Message("me", "a", "video", None), Message("me", "a", "audio", None)]
