"""The JUnit report of a script."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.cli.junit import check, document, write
from peer.errors import MediaError
from peer.script.language import parse
from peer.script.runner import StepDone

STEPS = parse("wait door\ncall door\nhang-up door\n")


def done(line: int, status: str = "passed", message: str | None = None) -> StepDone:
    return StepDone(line=line, text="x", status=status, seconds=0.5, message=message)  # type: ignore[arg-type]


def test_report_has_one_case_per_step() -> None:
    suite = ET.fromstring(document("a/ring.peer", STEPS, [done(1), done(2, "failed", "no <answer> & more")]))
    assert suite.attrib == {
        "name": "a/ring.peer",
        "tests": "3",
        "failures": "1",
        "errors": "0",
        "skipped": "1",
        "time": "1.000",
    }
    cases = suite.findall("testcase")
    assert [case.get("name") for case in cases] == ["1: wait door", "2: call door", "3: hang-up door"]
    assert {case.get("classname") for case in cases} == {"ring"}
    failure = cases[1].find("failure")
    assert failure is not None
    assert failure.text == "a/ring.peer:2: no <answer> & more"
    assert cases[2].find("skipped") is not None


def test_recording_failing_later_fails_its_step() -> None:
    suite = ET.fromstring(document("r", STEPS, [done(1), done(2), done(3), done(2, "failed", "disk full")]))
    assert suite.get("failures") == "1"


def test_script_that_did_not_start_or_end_is_an_error() -> None:
    suite = ET.fromstring(document("r", STEPS, [], "no relay"))
    assert (suite.get("errors"), suite.get("skipped"), suite.get("tests")) == ("1", "3", "4")
    assert [case.get("name") for case in suite.iter("testcase")][:2] == ["start", "1: wait door"]
    suite = ET.fromstring(document("r", STEPS, [done(1)], "interrupted"))
    assert [case.get("name") for case in suite.iter("testcase")][2:] == ["3: hang-up door", "end"]


@given(st.text(), st.text())
def test_any_text_gives_well_formed_xml(file: str, message: str) -> None:
    text = document(file, STEPS, [done(1, "failed", message)], message)
    ET.fromstring(text.encode("utf-8", "surrogatepass"))


def test_unwritable_report_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="--junit"):
        write(str(tmp_path / "none" / "x.xml"), "")


@pytest.mark.parametrize("path", ["/proc/nope.xml", "/nowhere/at/all.xml", "/proc"])
def test_unwritable_report_is_found_before_the_run(path: str) -> None:
    with pytest.raises(MediaError, match="use another path for --junit"):
        check(path)


def test_check_leaves_the_folder_and_the_file_unchanged(tmp_path: Path) -> None:
    check(str(tmp_path / "ring.xml"))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "ring.xml").write_text("before")
    check(str(tmp_path / "ring.xml"))
    assert (tmp_path / "ring.xml").read_text() == "before"
