"""A relay and a camera node, each in its own process, for all tests in this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.program import TEST, Program


@pytest.fixture(scope="package")
def relay() -> Iterator[str]:
    """The URL of a relay."""
    with Program("serve", "--port", "0", "--json") as program:
        url = program.expect("listening")["url"]
        assert isinstance(url, str)
        yield url


@pytest.fixture(scope="package")
def door(relay: str) -> Iterator[str]:
    """The id of a node that answers with the test pattern and tone."""
    with Program("run", "--id", "door", "--server", relay, "--json", *TEST) as program:
        program.expect("joined")
        yield "door"
