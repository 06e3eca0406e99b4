"""Events: their JSON form, which programs depend on."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from peer import events


def test_event_to_json_starts_with_name_and_time() -> None:
    body = events.PeerJoined(peer="door", time=12.34567).to_json()
    assert list(body.items()) == [("event", "peer-joined"), ("time", 12.346), ("peer", "door")]


def test_event_without_given_time_has_the_current_time() -> None:
    before = time.time()
    assert before <= events.ServerLost().time <= time.time()


def test_event_to_json_omits_keys_that_are_none() -> None:
    body = events.Error(code="room-full", message="try later", time=1.0).to_json()
    assert body == {"event": "error", "time": 1.0, "code": "room-full", "message": "try later"}


def test_event_to_json_keeps_zero_and_empty_values() -> None:
    body = events.Stats(peer="door", video={}, audio={}, loss=0.0, rtt_ms=0.0, time=1.0).to_json()
    assert body == {
        "event": "stats",
        "time": 1.0,
        "peer": "door",
        "video": {},
        "audio": {},
        "rtt_ms": 0.0,
        "loss": 0.0,
    }


def test_event_to_json_turns_tuples_into_lists() -> None:
    body = events.Joined(id="me", peers=("a", "b"), time=1.0).to_json()
    assert body["peers"] == ["a", "b"]
    assert json.loads(json.dumps(body)) == body


@pytest.mark.parametrize("kind", events.ALL, ids=lambda kind: kind.__name__)
def test_event_is_frozen_and_named_like_its_class(kind: type[events.Event]) -> None:
    assert kind.event.replace("-", "") == kind.__name__.lower()
    assert vars(kind)["__dataclass_params__"].frozen


def test_all_lists_every_event_once() -> None:
    own = {kind for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__}
    assert set(events.ALL) == own
    assert len({kind.event for kind in events.ALL}) == len(events.ALL)
    assert all("time" in {field.name for field in dataclasses.fields(kind)} for kind in events.ALL)
