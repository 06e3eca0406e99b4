"""The limits of ``peer serve``: their syntax, and clients that exceed them."""

from __future__ import annotations

import click
import pytest

from peer.cli.commands.serve_limits import count, count_text, size, size_text
from tests.cli.program import QUIET, Program


@pytest.mark.parametrize(("given", "expected"), [("none", 0), ("0", 0), ("500", 500), (500, 500)])
def test_count_accepts_numbers_and_none(given: object, expected: int) -> None:
    assert count(given) == expected


@pytest.mark.parametrize(("given", "expected"), [("none", 0), ("100", 100), ("8k", 8192), ("1M", 1 << 20), (7, 7)])
def test_size_units_are_powers_of_1024(given: object, expected: int) -> None:
    assert size(given) == expected


@pytest.mark.parametrize("limit", [0, 1, 1000, 1024, 1536, 8 << 10, 1 << 20, 256 << 20, 3 << 30])
def test_limit_is_written_as_its_option_reads_it(limit: int) -> None:
    assert size(size_text(limit)) == limit
    assert count(count_text(limit)) == limit


def test_size_is_written_in_the_largest_unit() -> None:
    assert [size_text(limit) for limit in (0, 1000, 256 << 10, 1 << 20)] == ["none", "1000", "256k", "1M"]


@pytest.mark.parametrize("given", ["-1", "1.5", "", "1T", "k", True, "unlimited"])
def test_invalid_limit_error_shows_the_syntax(given: object) -> None:
    for kind in (count, size):
        with pytest.raises(click.BadParameter, match=r"write it like .* or none"):
            kind(given)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--max-buffers", "100k"], "--max-buffers: must hold at least one message"),
        (["--max-frame", "1k"], "out of range; use 8k to 16M"),
        (["--exempt", "here"], "--exempt: 'here' does not appear"),
        (["--max-rooms", "many"], "'many' is not a number; write it like 500, or none"),
    ],
)
def test_serve_unusable_limit_exits_with_2(args: list[str], message: str) -> None:
    with Program("serve", "--port", "0", *args) as program:
        assert program.wait() == 2
        assert message in program.errors


def test_full_room_is_retried_until_timeout_then_exits_3() -> None:
    with Program("serve", "--port", "0", "--json", "--max-room-peers", "1") as serve:
        url = serve.expect("listening")["url"]
        with Program("list", "--watch", "--server", url, "--json") as holder:
            holder.expect("joined")
            for command in (["call", "door", *QUIET], ["list"]):
                with Program(*command, "--server", url, "--timeout", "1s", "--json") as program:
                    assert program.wait() == 3
                    assert program.events[-1]["code"] == "room-full"
                    message = "the room is full: its limit is 1 (room-full); try again later"
                    assert message in program.errors
