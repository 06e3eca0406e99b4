"""Types of options: accepted values, and errors that name the value and the syntax."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import click
import pytest

from peer.cli import param_types


@pytest.mark.parametrize(
    ("convert", "given", "value"),
    [
        (param_types.parsed_by("parse_size"), "640x480", (640, 480)),
        (param_types.parsed_by("parse_video", as_text=True), "test", "test"),
        (param_types.parsed_by("parse_duration"), 3, 3.0),
        (param_types.duration, "1.5s", 1.5),
        (param_types.duration, 2.5, 2.5),
        (param_types.duration_or_zero, "0s", 0.0),
        (param_types.duration_or_zero, 0, 0.0),
        (param_types.duration_or_zero, "2m", 120.0),
        (param_types.peer_id, "door", "door"),
        (param_types.path, "a b.mkv", "a b.mkv"),
        (param_types.relay_url, "wss://relay/ws", "wss://relay/ws"),
        (param_types.any_text, "", ""),
        (param_types.frame_rate, "29.97", 29.97),
        (param_types.frame_rate, 240, 240.0),
        (param_types.segment_length, "1s", 1.0),
        (param_types.video_codecs, "H264, vp8", ("h264", "vp8")),
        (param_types.video_codecs, ["vp8"], ("vp8",)),
    ],
)
def test_valid_value_is_converted(convert: Callable[[Any], Any], given: object, value: object) -> None:
    assert convert(given) == value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.5, "0.5s"), (10.0, "10s"), (60, "1m"), (90, "90s"), (3600.0, "1h"), (86400, "24h")],
)
def test_duration_is_written_as_its_option_reads_it(seconds: float, text: str) -> None:
    assert param_types.duration_text(seconds) == text
    assert param_types.duration_or_zero(text) == seconds


@pytest.mark.parametrize(
    ("convert", "given", "message"),
    [
        (param_types.parsed_by("parse_size"), True, "expected text or a number, not True"),
        (param_types.parsed_by("parse_size"), ["1x1"], "expected text or a number, not ['1x1']"),
        (param_types.parsed_by("parse_size"), "big", "'big' is not a size"),
        (param_types.duration, math.inf, "'inf' is not a duration"),
        (param_types.duration, -1.0, "'-1.0' is not a duration"),
        (param_types.duration, "0s", "'0s' is not a duration"),
        (param_types.duration_or_zero, "-1s", "'-1s' is not a duration"),
        (param_types.peer_id, "a b", "'a b' is not a valid id: use 1 to 64 of A-Z a-z 0-9 . _ ~ -"),
        (param_types.peer_id, "x" * 100, f"'{'x' * 80}' is not a valid id"),
        (param_types.peer_id, "--json", "an id is missing before --json"),
        (param_types.path, "", "the path is empty"),
        (param_types.path, "--json", "a path is missing before --json"),
        (param_types.path, 5, "expected text, not 5"),
        (param_types.relay_url, "https://relay/ws", "write it like wss://relay/ws"),
        (param_types.relay_url, "relay", "write it like ws://127.0.0.1:8080/ws"),
        (param_types.relay_url, None, "None is not the URL of a relay"),
        (param_types.any_text, ["a"], "expected text, not ['a']"),
        (param_types.frame_rate, "0.5", "'0.5' is not a frame rate"),
        (param_types.frame_rate, True, "True is not a frame rate"),
        (param_types.frame_rate, 10**400, "is not a frame rate"),
        (param_types.segment_length, "0.5s", "0.5s is too short for a segment; the minimum is 1s"),
        (param_types.video_codecs, "vp8,av1", "'vp8,av1' is not a list of codecs; use vp8 or h264, or both"),
        (param_types.video_codecs, "", "'' is not a list of codecs"),
        (param_types.video_codecs, 5, "5 is not a list of codecs"),
    ],
)
def test_invalid_value_error_names_value_and_syntax(
    convert: Callable[[Any], Any], given: object, message: str
) -> None:
    with pytest.raises(click.BadParameter) as caught:
        convert(given)
    assert message in caught.value.message
