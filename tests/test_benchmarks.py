"""Benchmarks still run, at a size that shows nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def output(script: str, *options: str) -> str:
    """Run a benchmark; return what it prints."""
    command = [sys.executable, f"benchmarks/{script}.py", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(script: str, *options: str) -> list[list[str]]:
    """Return the cells of the table that a benchmark prints, without its head."""
    lines = [line for line in output(script, *options).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.legacy
def test_three_relays_route_and_take_a_storm() -> None:
    found = rows("relay", "--rounds", "1", "--frames", "50", "--peers", "8")
    assert [row[0].partition(",")[0] for row in found] == [
        "one offer routed",
        "one candidate routed",
        "8 peers connect and join at once",
    ]
    missed = found[2][-1].split(", ")
    assert missed[0] == missed[2] == "0", "the plain relay's views and ours are complete"


@pytest.mark.legacy
def test_idle_peers_are_weighed() -> None:
    found = rows("relay_idle", "--peers", "4", "--whole", "4", "--others", "4", "--seconds", "0.2")
    assert [row[:3] for row in found] == [
        ["ours", "4", "10"],
        ["ours", "4", "4"],
        ["plain", "4", "4"],
        ["go", "4", "4"],
    ]


@pytest.mark.legacy
def test_latency_is_that_of_frames_that_all_came() -> None:
    found = rows("relay_latency", "--peers", "20", "--others", "4", "--seconds", "0.2")
    assert [row[0] for row in found] == ["ours", "plain", "go"]
    for row in found:
        p50, p99, p999, most = map(float, row[3:7])
        assert 0 < p50 <= p99 <= p999 <= most


def test_latency_across_relays_that_are_one() -> None:
    found = rows("relay_latency", "--nodes", "1,2", "--cluster-peers", "4", "--seconds", "0.2")
    assert [row[:2] for row in found] == [["1", "same"], ["2", "same"], ["2", "across"]]


def test_peers_come_back_to_a_relay() -> None:
    found = rows("restart", "--peers", "4", "--away", "0.1", "--rounds", "1")
    assert [row[0] for row in found] == ["4 back", "4 at one instant"]


def test_call_setup_measures_both_clients() -> None:
    found = json.loads(output("call_setup", "--calls", "1", "--typed", "1"))
    assert found["bare"] > 0 and found["ours"] > found["connected"] > 0 and found["typed"] > 0
