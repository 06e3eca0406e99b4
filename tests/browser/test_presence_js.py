"""presence.js behaves like peer/signaling/presence.py, in random sequences of reports."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

from peer.signaling import message_json, messages
from peer.signaling.presence import MAX_DEPARTED, Changes, Presence

_HERE = Path(__file__).parent
_INSTANCES = [None, None, "1", "1", "2", "", 5, "i" * 65, "\U0001f600" * 64]


def test_presence_js_random_reports_match_python(tmp_path: Path) -> None:
    rng = random.Random(1)
    walks = [{"name": f"walk {number}", "me": "me", "steps": _walk(rng)} for number in range(200)]
    table = tmp_path / "walks.json"
    table.write_text(json.dumps([*walks, {"name": "many peers", "me": "me", "steps": _crowd()}]))
    command = ["node", "--test", "--test-reporter=tap", str(_HERE / "presence.test.mjs")]
    run = subprocess.run(command, env=os.environ | {"CASES": str(table)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr
    assert "# pass 201" in run.stdout


def _walk(rng: random.Random) -> list[dict[str, Any]]:
    presence = Presence("me")
    return [_step(presence, _report(rng)) for _ in range(40)]


def _crowd() -> list[dict[str, Any]]:
    """More peers leave than are remembered; then all are restarted."""
    presence, peers = Presence("me"), [f"p{number}" for number in range(MAX_DEPARTED + 3)]
    lists = [(peers, dict.fromkeys(peers, "1")), ([], {}), (peers, dict.fromkeys(peers, "2"))]
    return [_step(presence, {"type": "peer-list", "peers": ids, "instances": known}) for ids, known in lists]


def _report(rng: random.Random) -> dict[str, Any]:
    ids = ["me", "a", "b", "constructor", "__proto__"]
    match rng.choice(["peer-list", "peer-joined", "peer-left"]):
        case "peer-list":
            instances: Any = {peer: rng.choice(_INSTANCES) for peer in rng.sample(ids, 3)}
            listed = rng.choices(ids, k=rng.randrange(5))
            return {
                "type": "peer-list",
                "peers": listed,
                "instances": rng.choice([instances, instances, None, 5, []]),
            }
        case "peer-joined":
            return {"type": "peer-joined", "peerId": rng.choice(ids), "instance": rng.choice(_INSTANCES)}
        case _:
            return {"type": "peer-left", "peerId": rng.choice(ids)}


def _step(presence: Presence, report: dict[str, Any]) -> dict[str, Any]:
    match message_json.parse(json.dumps(report)):
        case messages.PeerList(peers, _, instances):
            method, argument, changes = "replace", report, presence.replace(peers, instances)
        case messages.PeerJoined(peer, instance):
            method, argument, changes = "add", report, presence.add(peer, instance)
        case messages.PeerLeft(peer):
            method, argument, changes = "remove", report["peerId"], presence.remove(peer)
    return {"method": method, "report": argument, "changes": _json(changes), "peers": presence.peers}


def _json(changes: Changes) -> dict[str, list[str]]:
    return {"left": list(changes.left), "restarted": list(changes.restarted), "came": list(changes.came)}
