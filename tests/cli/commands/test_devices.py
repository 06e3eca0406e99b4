"""``peer devices``, as a process."""

from __future__ import annotations

from tests.cli.program import Program


def test_devices_lists_each_kind_or_none() -> None:
    with Program("devices") as program:
        assert program.wait() == 0
    for title in ("Cameras (--video)", "Microphones (--audio)", "Speakers (--speaker)"):
        assert program.text[program.text.index(title) + 1].startswith("  ")
    with Program("devices", "--json") as program:
        assert program.wait() == 0
    assert program.text == []
    assert {body["event"] for body in program.events} <= {"device"}
