"""JUnit XML report of a script, for CI servers: one test suite with one case per step."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

from ..errors import MediaError
from ..node.sinks import check_folder
from ..script.runner import StepDone
from ..script.steps import Step

_HINT = "use another path for --junit"

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2 Characters


def document(file: str, steps: Sequence[Step], done: Sequence[StepDone], error: str | None = None) -> str:
    """The report as XML.

    A step that was not reached is ``skipped``. ``error`` is the reason why the script did not start, or why it was
    interrupted; it becomes an additional case at the beginning or at the end.
    """
    outcome = {step.line: step for step in done}  # the last one counts: a recording can fail after it has started
    suite = ET.Element("testsuite", name=_text(file), tests=str(len(steps) + (error is not None)))
    failures = skipped = 0
    for step in steps:
        result = outcome.get(step.line)
        case = ET.SubElement(
            suite,
            "testcase",
            classname=_text(Path(file).stem),
            name=_text(f"{step.line}: {step.text}"),
            time=f"{result.seconds if result else 0.0:.3f}",
        )
        if result is None:
            skipped += 1
            ET.SubElement(case, "skipped")
        elif result.status == "failed":
            failures += 1
            message = _text(result.message or "")
            ET.SubElement(case, "failure", message=message).text = _text(f"{file}:{step.line}: {result.message}")
    if error is not None:
        name = "end" if done else "start"
        case = ET.Element("testcase", classname=_text(Path(file).stem), name=name, time="0.000")
        suite.insert(len(steps) if done else 0, case)
        ET.SubElement(case, "error", message=_text(error)).text = _text(error)
    suite.set("failures", str(failures))
    suite.set("errors", str(int(error is not None)))
    suite.set("skipped", str(skipped))
    suite.set("time", f"{sum(step.seconds for step in outcome.values()):.3f}")
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def check(path: str) -> None:
    """Check before the run that the report can be written.

    Raises:
        MediaError: it cannot.
    """
    file = Path(path)
    try:
        if file.exists():
            with file.open("ab"):
                return
    except OSError as error:
        raise MediaError(path, error.strerror or str(error), _HINT) from None
    check_folder(path, file.absolute().parent, _HINT)


def write(path: str, text: str) -> None:
    """Write the report.

    Raises:
        MediaError: the file cannot be written.
    """
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise MediaError(path, error.strerror or str(error), _HINT) from None


def _text(value: str) -> str:
    return _NOT_XML.sub("\ufffd", value)
