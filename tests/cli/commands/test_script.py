"""``peer script``, as a process."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.cli.program import Program

RING = """# ring
wait door 30s
call door within 15s
expect video door fps>=5 width==320 brightness>20 for 1s within 10s
expect audio door level>-50dB within 5s
snapshot door {folder}/door.png
record door {folder}/door.mkv 1s
record door {folder}/beside.mkv
sleep 500ms
hang-up door
expect ended door hang-up
"""


def run(relay: str, tmp_path: Path, text: str, *args: str) -> Program:
    file = tmp_path / "ring.peer"
    file.write_text(text)
    return Program("script", str(file), "--server", relay, "--no-show", *args)


def test_script_reports_each_step(relay: str, door: str, tmp_path: Path) -> None:
    report = tmp_path / "ring.xml"
    with run(relay, tmp_path, RING.format(folder=tmp_path), "--json", "--junit", str(report)) as program:
        assert program.wait() == 0, program.errors
    steps = [body for body in program.events if body["event"] == "step"]
    assert [step["line"] for step in steps] == list(range(2, 12))
    assert {step["status"] for step in steps} == {"passed"}
    assert (tmp_path / "door.png").exists()
    assert (tmp_path / "beside.mkv").stat().st_size > (tmp_path / "door.mkv").stat().st_size / 10
    suite = ET.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("10", "0", "0")


def test_script_first_failure_stops_with_its_line(relay: str, door: str, tmp_path: Path) -> None:
    text = "wait door\ncall door\nexpect video door fps>=500 for 200ms\nhang-up door\n"
    report = tmp_path / "ring.xml"
    with run(relay, tmp_path, text, "--junit", str(report)) as program:
        assert program.wait() == 1
        assert f"{tmp_path}/ring.peer:3: expect video door fps>=500 for 200ms: door: fps was" in program.errors
        assert "Traceback" not in program.errors
    assert [line.split()[0] for line in program.text] == ["ok", "ok", "FAILED"]
    suite = ET.parse(report).getroot()
    assert (suite.get("failures"), suite.get("skipped")) == ("1", "1")


@pytest.mark.parametrize(
    ("text", "why"),
    [("cal door\n", 'unknown verb "cal"'), ("# nothing\n", "the script has no steps"), (None, "No such file")],
)
def test_junit_report_of_invalid_script_has_the_cause(tmp_path: Path, text: str | None, why: str) -> None:
    report, file = tmp_path / "ring.xml", tmp_path / "ring.peer"
    report.write_text("that of the last run")
    if text is not None:
        file.write_text(text)
    with Program("script", str(file), "--junit", str(report)) as program:
        assert program.wait() == 2
        assert why in program.errors and "Traceback" not in program.errors
    (error,) = ET.parse(report).getroot().iter("error")
    assert why in str(error.get("message"))


def test_script_with_syntax_error_does_not_start(relay: str, tmp_path: Path) -> None:
    with run(relay, tmp_path, "wait door\ncal door\nslep 1s\n") as program:
        assert program.wait() == 2
        assert 'ring.peer:2: unknown verb "cal"; did you mean call?' in program.errors
        assert 'ring.peer:3: unknown verb "slep"; did you mean sleep?' in program.errors
    assert program.text == []


def test_script_check_does_not_run_it(tmp_path: Path) -> None:
    with run("ws://127.0.0.1:9/ws", tmp_path, "wait door\ncall door\n", "--check") as program:
        assert program.wait() == 0
    assert program.text == [f"{tmp_path}/ring.peer: 2 steps, syntax OK"]
    with run("ws://127.0.0.1:9/ws", tmp_path, "wait\n", "--check", "--json") as program:
        assert program.wait() == 2
    assert program.events[-1]["code"] == "failed"


def test_junit_report_without_relay_has_an_error(tmp_path: Path) -> None:
    report = tmp_path / "ring.xml"
    with run("ws://127.0.0.1:9/ws", tmp_path, "wait door\n", "--timeout", "200ms", "--junit", str(report)) as program:
        assert program.wait() == 3
    suite = ET.parse(report).getroot()
    assert (suite.get("errors"), suite.get("skipped")) == ("1", "1")


def test_missing_script_file_exits_with_2() -> None:
    with Program("script", "none.peer") as program:
        assert program.wait() == 2
        assert "none.peer: No such file" in program.errors
