"""Target: user input: scripts, configuration files, sizes, times, sources.

    python -m fuzz user_input --seconds 60

Properties: an error is a ``PeerError`` of one line; an accepted value is finite and parses the same again.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from peer.cli import config_file
from peer.cli import param_types as option_values
from peer.errors import ConfigError, PeerError, ScriptError
from peer.media.sources import spec
from peer.script import language, steps
from peer.signaling.messages import is_valid_id

from .byte_reader import ByteReader

OPTIONS = {
    "call": {"server", "id", "video", "timeout", "ice-server"},
    "run": {"server", "id", "call"},
    "serve": {"host", "port"},
}
_SCRIPTS = (
    b"wait door 30s\ncall door within 15s\nexpect video door fps>=20 for 5s\nexpect audio door level > -50dB",
    b"snapshot door 'a b.png' within 1m\nrecord door door.mkv for 10s # done\nhang-up a\nexpect ended a hang-up",
    b"expect connected door within 500ms\nsleep 0.5h\n",
)
_FILES = (
    b'server = "wss://r/ws"\nice-server = ["stun:a"]\n[run]\nid = "door"\ncall = [\'x\']\n',
    b"video = 1979-05-27T07:32:00Z\ntimeout = 1e3\n[serve]\nport = 0x1f\n",
)
_WORDS = (b"1280x720", b"2.5M", b"10s", b"/dev/video0?h264", b"hw:1,0", b"30")
SEEDS = [
    *(b"\0" + text for text in _SCRIPTS),
    *(b"\1" + text for text in _FILES),
    *(bytes([2, n]) + text for n, text in enumerate(_WORDS)),
]


def test_one(data: bytes) -> None:
    kind, rest = ByteReader(data[:1]).number() % 3, data[1:]
    try:
        if kind == 0:
            _script(rest.decode("utf-8", "surrogateescape"))
        elif kind == 1:
            _config(rest)
        else:
            _word(ByteReader(rest))
    except PeerError as exc:
        assert len(str(exc).splitlines()) == 1, "an error has one line"


def _script(text: str) -> None:
    try:
        parsed = language.parse(text, "ring.peer")
    except ScriptError as exc:
        assert 1 <= exc.line <= len(text.splitlines())
        raise
    for step in parsed:
        again = language.parse(step.text)
        assert again == (replace(step, line=1),), "the meaning of a line depends on its position"
        if not isinstance(step, steps.Sleep):
            assert is_valid_id(step.peer)  # type: ignore[attr-defined]
        for name in ("timeout", "window", "seconds"):
            seconds = getattr(step, name, None)
            assert seconds is None or (math.isfinite(seconds) and seconds >= 0)
        for condition in getattr(step, "conditions", ()):
            assert math.isfinite(condition.value)


def _config(data: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        path = Path(folder, "peer.toml")
        path.write_bytes(data)
        values = config_file.load(path, OPTIONS)
    assert set(values) == set(OPTIONS)
    for command, found in values.items():
        assert set(found) <= OPTIONS[command]
        for value in found.values():
            _typed(value)


def _typed(value: object) -> None:
    """Parse a value of the file like one from the command line."""
    for read in (
        option_values.duration,
        option_values.duration_or_zero,
        option_values.frame_rate,
        option_values.peer_id,
        option_values.any_text,
    ):
        try:
            result = read(value)
        except click.BadParameter as exc:
            assert exc.message
            continue
        assert not isinstance(result, float) or (math.isfinite(result) and result >= 0)


def _word(reader: ByteReader) -> None:
    read = reader.pick(
        (
            spec.parse_size,
            spec.parse_bitrate,
            spec.parse_duration,
            spec.parse_video,
            spec.parse_audio,
            option_values.frame_rate,
        )
    )
    text = reader.rest().decode("utf-8", "surrogateescape")
    try:
        found = read(text)
    except click.BadParameter:
        return
    except ConfigError as exc:
        assert exc.message
        raise
    if isinstance(found, float):
        assert math.isfinite(found) and found > 0
