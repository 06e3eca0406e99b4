"""The page's negotiation.js obeys the same law as peer/negotiation.py: the table both share, then dice."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

from peer import negotiation as law
from peer.signaling.messages import IceCandidate

_HERE = Path(__file__).parent
_TABLE = _HERE.parent / "negotiation" / "cases.json"
_CANDIDATE_KEYS = {"sdp_mid": "sdpMid", "sdp_m_line_index": "sdpMLineIndex", "username_fragment": "usernameFragment"}


def test_table_of_cases_holds_in_javascript() -> None:
    _run_on_node(_TABLE)


def test_random_walks_end_as_in_python(tmp_path: Path) -> None:
    """Thousands of events nobody thought of: same commands, same phase, same deadline, in both languages."""
    dice = random.Random(1)
    walks = [_walk(dice, f"walk {number}", length=60) for number in range(200)]
    phases = {step["phase"] for walk in walks for step in walk["steps"]}
    assert phases == {phase.value for phase in law.Phase}, "the walks must go everywhere to prove anything"
    table = tmp_path / "walks.json"
    table.write_text(json.dumps([*walks, _flood("more than fits")]))
    _run_on_node(table)


def _run_on_node(table: Path) -> None:
    command = ["node", "--test", "--test-reporter=tap", str(_HERE / "negotiation.test.mjs")]
    run = subprocess.run(command, env=os.environ | {"CASES": str(table)}, capture_output=True, text=True)
    failures = [line for line in run.stdout.splitlines() if line.lstrip().startswith("not ok")]
    assert run.returncode == 0, "\n".join(failures[:10]) + run.stdout[-3000:] + run.stderr
    passed = int(run.stdout.rpartition("# pass ")[2].split()[0])
    assert passed >= len(json.loads(table.read_text()))


def _walk(dice: random.Random, name: str, length: int) -> dict[str, Any]:
    me, remote = dice.choice([("a", "b"), ("b", "a")])
    core, now, steps, generation = law.Negotiation(me, remote), 0.0, [], 0
    for _ in range(length):
        now += dice.choice([0.0, 0.0, 0.5, 4.0, 16.0])
        steps.append(_step(core, _event(dice, dice.choice([generation] * 3 + [max(0, generation - 1)])), now))
        generation = max([generation, *(command.get("generation", 0) for command in steps[-1]["commands"])])
    return {"name": name, "me": me, "remote": remote, "steps": steps}


def _flood(name: str) -> dict[str, Any]:
    """More than fits into each of the lines: their early candidates, our held ones, their offers."""
    core = law.Negotiation("b", "a")
    early = [law.CandidateReceived(IceCandidate(f"candidate:{n}", "0", 0, "x")) for n in range(law.MAX_QUEUED + 9)]
    offers = [law.OfferReceived("a=ice-ufrag:x\r\n")] * (law.MAX_QUEUED + 9)
    held = [law.LocalCandidate(1, IceCandidate(f"candidate:{n}", "0", 0, "y")) for n in range(law.MAX_QUEUED + 9)]
    answers = [law.AnswerCreated(n, "a=ice-ufrag:y\r\n") for n in range(1, law.MAX_QUEUED + 9)]
    events: list[law.Event] = [*early, offers[0], *held, *offers, *answers]
    return {"name": name, "me": "b", "remote": "a", "steps": [_step(core, event, 0.0) for event in events]}


def _step(core: law.Negotiation, event: law.Event, now: float) -> dict[str, Any]:
    commands = [_json(command) for command in core.handle(event, now)]
    after = {"phase": core.phase.value, "deadline": core.deadline, "settled": core.settled}
    return {"event": _json(event), "now": now, "commands": commands} | after


def _event(dice: random.Random, generation: int) -> law.Event:
    name = dice.choice("xyz")
    sdp = f"v=0\r\na=ice-ufrag:{name}\r\n"
    line = dice.choice(["candidate:1 1 udp 1 127.0.0.1 9 typ host", f"candidate:2 ufrag {name}", ""])
    candidate = IceCandidate(line, "0", 0, dice.choice([None, name]))
    progress: list[law.Event] = [  # what makes calls come about, as likely as everything else together
        law.OfferCreated(generation, sdp),
        law.AnswerCreated(generation, sdp),
        law.AnswerReceived(sdp),
        law.TransportConnected(generation),
    ]
    anything: list[law.Event] = [
        law.Dial(dice.choice([10.0, 15.0])),
        law.Dial(15.0),
        law.HangUp(dice.choice(["hang-up", "shutdown"])),
        law.OfferReceived(sdp, dice.random() < 0.8),
        law.CandidateReceived(dice.choice([candidate, candidate, None])),
        law.HangUpReceived(dice.choice([None, "hang-up", "declined"])),
        law.DescriptionFailed(generation),
        law.LocalCandidate(generation, candidate),
        law.TransportClosed(generation, dice.choice(["remote-hang-up", "transport-failed"])),
        law.MediaSilent(generation),
        law.MediaFlowing(generation),
        law.PeerGone(),
        law.PeerBack(),
        law.Tick(),
    ]
    return dice.choice(dice.choice([progress, anything]))


def _json(value: law.Event | law.Command) -> dict[str, Any]:
    fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(fields.get("candidate"), IceCandidate):
        facts = dataclasses.asdict(fields["candidate"])
        fields["candidate"] = {_CANDIDATE_KEYS.get(key, key): fact for key, fact in facts.items() if fact is not None}
    return {"type": type(value).__name__, **fields}
