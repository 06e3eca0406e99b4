"""docs/protocol.md lists exactly the message types, error codes and close codes of the code."""

from __future__ import annotations

import re

from peer.signaling import message_json, messages

from .wire import ROOT

PAGE = (ROOT / "docs" / "protocol.md").read_text()


def test_message_types_are_on_the_protocol_page() -> None:
    headings = " ".join(line for line in PAGE.splitlines() if line.startswith("### "))
    for kind in messages.SERVER_TYPES | messages.TARGETED_TYPES | {"join"}:
        assert re.search(rf"\b{kind}\b", headings), kind


def test_error_codes_on_the_page_are_those_of_the_code() -> None:
    table = PAGE.split("| code | when |")[1].split("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE)) == messages.ERROR_CODES


def test_close_codes_on_the_page_are_those_of_the_code() -> None:
    table = PAGE.split("| close code | meaning |")[1].split("\n\n")[0]
    codes = {value for name, value in vars(messages).items() if name.startswith("CLOSE_")}
    assert set(map(int, re.findall(r"^\| (\d+)", table, re.MULTILINE))) == codes | {1001}


def test_protocol_examples_can_be_parsed() -> None:
    for block in re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL):
        for example in re.split(r"\n(?=\{)", block.strip()):
            message_json.parse(example)
