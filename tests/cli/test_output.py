"""Output as text and as JSON."""

from __future__ import annotations

import dataclasses
import json

import pytest

from peer import events
from peer.cli.output import Output, describe

STATS = events.Stats(
    peer="door",
    video={"fps": 29.7, "kbps": 678, "width": 640, "height": 480},
    audio={"kbps": 64},
    rtt_ms=3.4,
    loss=0.012,
)

ONE_OF_EACH = (
    events.Joined(id="me", peers=("door",)),
    events.PeerJoined(peer="door"),
    events.PeerLeft(peer="door"),
    events.Calling(peer="door"),
    events.Incoming(peer="door"),
    events.Connected(peer="door", setup_ms=45),
    events.FirstFrame(peer="door", width=640, height=480, codec="vp8"),
    STATS,
    events.Snapshot(peer="door", path="door.png"),
    events.Recorded(peer="door", path="door.mkv", seconds=10.04),
    events.Ended(peer="door", reason="declined", detail="no common codec"),
    events.ServerLost(detail="connection refused"),
    events.ServerBack(),
    events.SourceLost(source="/dev/video0", kinds=("video",), cause="gone", message="/dev/video0: it is gone"),
    events.SourceBack(source="/dev/video0", kinds=("video",), seconds=1.2),
    events.SourceLost(peer="door", kinds=("video",), cause="gone", message="door has no live video: gone"),
    events.SourceBack(peer="door", kinds=("video", "audio"), seconds=1.2),
    events.SinkLost(sink="default", message="it is gone"),
    events.SinkBack(sink="default", seconds=1.2),
    events.Error(code="media-error", message="no room", peer="door", path="door.mkv"),
)


def test_examples_cover_every_event() -> None:
    assert {type(event) for event in ONE_OF_EACH} == set(events.ALL)


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.event)
def test_event_as_json_is_one_object_per_line(event: events.Event, capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).event(event)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    body = json.loads(out)
    assert body["event"] == event.event
    assert abs(body["time"] - event.time) < 0.001
    given = [item.name for item in dataclasses.fields(event) if getattr(event, item.name) is not None]
    assert set(body) == {"event", *given}


@pytest.mark.parametrize("event", ONE_OF_EACH, ids=lambda event: event.event)
def test_every_event_is_described_in_one_line(event: events.Event) -> None:
    line = describe(event)
    assert line
    assert "\n" not in line
    assert "{" not in line


@pytest.mark.parametrize("peer", ["a\nb", "\x1b[2J", "\x9b31m", "\u202eexe", "\r"])
def test_unprintable_characters_in_ids_are_escaped(peer: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An old relay accepts any text as an id."""
    out = Output(as_json=False)
    out.text(peer)
    out.event(events.PeerJoined(peer=peer))
    assert all(line.isascii() and line.isprintable() for line in capsys.readouterr().out.split("\n"))


def test_printable_unicode_is_not_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).text("Küche 🛋")
    assert capsys.readouterr().out == "Küche 🛋\n"


def test_statistics_are_printed_only_with_detail(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).event(STATS)
    assert capsys.readouterr().out == ""
    Output(as_json=False, detail=True).event(STATS)
    assert capsys.readouterr().out == ("door: 640x480 30 fps 678 kbit/s, audio 64 kbit/s, RTT 3 ms, loss 1.2%\n")


def test_text_and_json_output_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).text("for people")
    Output(as_json=False).object({"for": "programs"})
    assert capsys.readouterr().out == ""
