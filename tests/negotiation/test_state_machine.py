"""Table of cases for both state machines: event in, commands out. tests/browser runs it on negotiation.js."""

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
def test_negotiation_case_returns_the_listed_commands(case: dict[str, Any]) -> None:
    negotiation = n.Negotiation(case["me"], case["remote"], timeout=15.0)
    for step in case["steps"]:
        commands = negotiation.handle(from_json(step["event"]), step["now"])
        assert list(commands) == [from_json(command) for command in step["commands"]], step


def test_negotiation_flood_leaves_queues_bounded() -> None:
    negotiation = n.Negotiation("a", "b")
    negotiation.handle(n.OfferReceived("a=ice-ufrag:x"), 0.0)
    for _ in range(10 * n.MAX_QUEUED):
        negotiation.handle(n.OfferReceived("a=ice-ufrag:y"), 0.0)
        negotiation.handle(n.CandidateReceived(IceCandidate("candidate:1", "0", 0, "z")), 0.0)
    assert len(negotiation._line.offers) == n.MAX_QUEUED
    assert len(negotiation._remote_candidates) == n.MAX_QUEUED


def test_deadline_when_idle_or_connected_is_none() -> None:
    negotiation = n.Negotiation("a", "b", timeout=15.0)
    assert negotiation.deadline is None
    negotiation.handle(n.Dial(5.0), 100.0)
    assert negotiation.deadline == 105.0
    negotiation.handle(n.OfferCreated(1, "a=ice-ufrag:x"), 101.0)
    negotiation.handle(n.AnswerReceived("a=ice-ufrag:y"), 102.0)
    negotiation.handle(n.TransportConnected(1), 103.0)
    assert negotiation.deadline is None
