"""The table of cases that both cores are held to: event in, commands out (tests/browser has the JavaScript one)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from peer import negotiation as n
from peer.signaling.messages import IceCandidate

CASES = json.loads((Path(__file__).parent / "cases.json").read_text())

CANDIDATE_KEYS = {
    "candidate": "candidate",
    "sdpMid": "sdp_mid",
    "sdpMLineIndex": "sdp_m_line_index",
    "usernameFragment": "username_fragment",
}


def from_json(body: dict[str, Any]) -> Any:
    fields = {key: value for key, value in body.items() if key != "type"}
    if fields.get("candidate") is not None:
        fields["candidate"] = IceCandidate(**{CANDIDATE_KEYS[k]: v for k, v in fields["candidate"].items()})
    return getattr(n, body["type"])(**fields)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: dict[str, Any]) -> None:
    core = n.Negotiation(case["me"], case["remote"], timeout=15.0)
    for step in case["steps"]:
        commands = core.handle(from_json(step["event"]), step["now"])
        assert list(commands) == [from_json(command) for command in step["commands"]], step


def test_a_waiting_line_is_bounded() -> None:
    core = n.Negotiation("a", "b")
    core.handle(n.OfferReceived("a=ice-ufrag:x"), 0.0)
    for _ in range(10 * n.MAX_QUEUED):
        core.handle(n.OfferReceived("a=ice-ufrag:y"), 0.0)
        core.handle(n.CandidateReceived(IceCandidate("candidate:1", "0", 0, "z")), 0.0)
    assert len(core._offers) == n.MAX_QUEUED
    assert len(core._remote_candidates) == n.MAX_QUEUED


def test_the_deadline_is_the_earliest_and_none_when_idle_or_connected() -> None:
    core = n.Negotiation("a", "b", timeout=15.0)
    assert core.deadline is None
    core.handle(n.Dial(5.0), 100.0)
    assert core.deadline == 105.0
    core.handle(n.OfferCreated(1, "a=ice-ufrag:x"), 101.0)
    core.handle(n.AnswerReceived("a=ice-ufrag:y"), 102.0)
    core.handle(n.TransportConnected(1), 103.0)
    assert core.deadline is None
