"""negotiation.js behaves like peer/negotiation/state_machine.py, in the shared cases and in random walks."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import subprocess
from pathlib import Path
from typing import Any

from peer import negotiation as n
from peer.signaling.messages import IceCandidate

_HERE = Path(__file__).parent
_TABLE = _HERE.parent / "negotiation" / "cases.json"
_CANDIDATE_KEYS = {"sdp_mid": "sdpMid", "sdp_m_line_index": "sdpMLineIndex", "username_fragment": "usernameFragment"}


def test_negotiation_js_passes_the_table_of_cases() -> None:
    _run_on_node(_TABLE)


def test_negotiation_js_random_walks_match_python(tmp_path: Path) -> None:
    """Thousands of random events yield the same commands, phase and deadline in both languages."""
    rng = random.Random(1)
    walks = [_walk(rng, f"walk {number}", length=60) for number in range(200)]
    phases = {step["phase"] for walk in walks for step in walk["steps"]}
    assert phases == {phase.value for phase in n.Phase}, "the walks must reach every phase"
    table = tmp_path / "walks.json"
    table.write_text(json.dumps([*walks, _flood("full queues")]))
    _run_on_node(table)


def _run_on_node(table: Path) -> None:
    command = ["node", "--test", "--test-reporter=tap", str(_HERE / "negotiation.test.mjs")]
    run = subprocess.run(command, env=os.environ | {"CASES": str(table)}, capture_output=True, text=True)
    failures = [line for line in run.stdout.splitlines() if line.lstrip().startswith("not ok")]
    assert run.returncode == 0, "\n".join(failures[:10]) + run.stdout[-3000:] + run.stderr
    passed = int(run.stdout.rpartition("# pass ")[2].split()[0])
    assert passed >= len(json.loads(table.read_text()))


def _walk(rng: random.Random, name: str, length: int) -> dict[str, Any]:
    me, remote = rng.choice([("a", "b"), ("b", "a")])
    machine, now, steps, generation = n.Negotiation(me, remote), 0.0, [], 0
    for _ in range(length):
        now += rng.choice([0.0, 0.0, 0.0, 0.5, 4.0, 16.0])
        steps.append(_step(machine, _event(rng, rng.choice([generation] * 3 + [max(0, generation - 1)])), now))
        generation = max([generation, *(command.get("generation", 0) for command in steps[-1]["commands"])])
    return {"name": name, "me": me, "remote": remote, "steps": steps}


def _flood(name: str) -> dict[str, Any]:
    """Overfill all three queues: remote candidates, local candidates and offers."""
    machine = n.Negotiation("b", "a")
    count = n.MAX_QUEUED + 9
    remote = [n.CandidateReceived(IceCandidate(f"candidate:{i}", "0", 0, "x")) for i in range(count)]
    offers = [n.OfferReceived("a=ice-ufrag:x\r\n")] * count
    local = [n.LocalCandidate(1, IceCandidate(f"candidate:{i}", "0", 0, "y")) for i in range(count)]
    answers = [n.AnswerCreated(i, "a=ice-ufrag:y\r\n") for i in range(1, count)]
    events: list[n.Event] = [*remote, offers[0], *local, *offers, *answers]
    return {"name": name, "me": "b", "remote": "a", "steps": [_step(machine, event, 0.0) for event in events]}


def _step(machine: n.Negotiation, event: n.Event, now: float) -> dict[str, Any]:
    before = {"startsCall": machine.starts_call(event)} if isinstance(event, n.OfferReceived) else {}
    commands = [_json(command) for command in machine.handle(event, now)]
    after = {"phase": machine.phase.value, "deadline": machine.deadline, "settled": machine.settled}
    after |= {"waitingBytes": machine.waiting_bytes}
    return {"event": _json(event), "now": now, "commands": commands} | before | after


def _event(rng: random.Random, generation: int) -> n.Event:
    name = rng.choice("xyz")
    session, certificate = rng.choice("112"), rng.choice(["AA", "aa", "bb"])
    sdp = f"v=0\r\no=- {session} 1\r\na=fingerprint:sha-256 {certificate}\r\na=ice-ufrag:{name}\r\n"
    call, number = rng.choice([None, "c1", "c1", "c2"]), rng.choice([None, 1, 1, 2, 3])
    named = {"call": call, "round": number}
    sent = rng.choice([{}, {"call": "c1", "round": 1}, named])  # what a conforming remote echoes, mostly
    line = rng.choice(["candidate:1 1 udp 1 127.0.0.1 9 typ host", f"candidate:2 ufrag {name}", ""])
    candidate = IceCandidate(line, "0", 0, rng.choice([None, name]))
    progress: list[n.Event] = [  # events that advance a call; twice as likely as all others together
        n.OfferCreated(generation, sdp),
        n.AnswerCreated(generation, sdp),
        n.AnswerReceived(sdp, **sent),
        n.TransportConnected(generation),
        n.OfferReceived(sdp, **sent),
    ]
    anything: list[n.Event] = [
        n.Dial(rng.choice([10.0, 15.0]), rng.choice([None, "c1"])),
        n.Dial(15.0, rng.choice([None, "c1", "c3"])),
        n.HangUp(rng.choice(["hang-up", "shutdown"])),
        n.OfferReceived(sdp, rng.random() < 0.8, **named),
        n.CandidateReceived(rng.choice([candidate, candidate, None])),
        n.HangUpReceived(rng.choice([None, "hang-up", "declined"]), rng.choice(["", "no common codec"]), **named),
        n.DescriptionFailed(generation, detail=rng.choice(["", "no a=fingerprint"])),
        n.LocalCandidate(generation, candidate),
        n.TransportClosed(generation, rng.choice(["remote-hang-up", "transport-failed"])),
        n.MediaSilent(generation),
        n.MediaFlowing(generation),
        n.PeerGone(),
        n.PeerBack(),
        n.PeerRestarted(),
        n.Tick(),
    ]
    return rng.choice(rng.choice([progress, progress, anything]))


def _json(value: n.Event | n.Command) -> dict[str, Any]:
    fields = {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(fields.get("candidate"), IceCandidate):
        facts = dataclasses.asdict(fields["candidate"])
        fields["candidate"] = {_CANDIDATE_KEYS.get(key, key): fact for key, fact in facts.items() if fact is not None}
    if fields.get("detail") == "":
        del fields["detail"]
    for key in ("call", "round"):
        if key in fields and fields[key] is None:
            del fields[key]
    return {"type": type(value).__name__, **fields}
