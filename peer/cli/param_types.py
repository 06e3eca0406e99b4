"""Types of options: each converts a value from the command line, the environment or the TOML file.

Each raises ``click.BadParameter``, whose message names the value and the accepted syntax.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import click

from ..errors import ConfigError
from ..options import VIDEO_CODECS
from ..signaling.messages import is_valid_id

_MAX_SHOWN: Final = 80
"""Maximum length of an invalid id in an error, in characters. A longer one is cut off."""


def parsed_by(function: str, *, as_text: bool = False) -> Callable[[Any], Any]:
    """A type whose values ``peer.media.sources.spec.<function>`` parses.

    The value is the result, or with ``as_text`` the valid text itself.
    """

    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):  # numbers come from the TOML file
            raise click.BadParameter(f"expected text or a number, not {value!r}")
        try:
            result = getattr(import_module("peer.media.sources.spec"), function)(str(value))
        except ConfigError as error:
            raise click.BadParameter(error.message) from None
        return value if as_text else result

    return convert


def duration(value: Any) -> float:
    """A duration in seconds, greater than 0."""
    if isinstance(value, float) and 0 < value < math.inf:  # a TOML float may be negative, inf or nan
        return value
    return float(parsed_by("parse_duration")(value))


def duration_or_zero(value: Any) -> float:
    """A duration in seconds, for options that 0 turns off."""
    return 0.0 if str(value) in ("0", "0s", "0.0") else duration(value)


def duration_text(seconds: float) -> str:
    """``seconds`` as ``duration_or_zero`` accepts it, in the largest unit that divides it: ``1h``, ``90s``."""
    for factor, unit in ((3600, "h"), (60, "m")):
        if seconds and seconds % factor == 0:
            return f"{seconds / factor:g}{unit}"
    return f"{seconds:g}s"


def peer_id(value: Any) -> str:
    """An id of a peer or room. Rejects one that begins with ``--``: then the id itself was forgotten."""
    if not is_valid_id(value):
        raise click.BadParameter(f"{str(value)[:_MAX_SHOWN]!r} is not a valid id: use 1 to 64 of A-Z a-z 0-9 . _ ~ -")
    if str(value).startswith("--"):
        raise click.BadParameter(f"an id is missing before {value}")
    return str(value)


def path(value: Any) -> str:
    """The path of a file or folder."""
    text = any_text(value)
    if not text or text.startswith("--"):
        raise click.BadParameter(f"a path is missing before {text}" if text else "the path is empty")
    return text


def relay_url(value: Any) -> str:
    """A ``ws://`` or ``wss://`` URL."""
    if not isinstance(value, str) or not value.startswith(("ws://", "wss://")):
        hint = f"ws{value[4:]}" if isinstance(value, str) and value.startswith("http") else "ws://127.0.0.1:8080/ws"
        raise click.BadParameter(f"{value!r} is not the URL of a relay; write it like {hint}")
    return value


def any_text(value: Any) -> str:
    """Any text. Rejects the lists and numbers of a TOML file, which click would convert to text."""
    if not isinstance(value, str):
        raise click.BadParameter(f"expected text, not {value!r}")
    return value


def frame_rate(value: Any) -> float:
    """A frame rate, in frames per second."""
    try:
        rate = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):  # OverflowError: the size of a TOML integer is unlimited
        rate = math.nan
    if not 1 <= rate <= 240:  # also rejects nan
        raise click.BadParameter(f"{value!r} is not a frame rate; use 1 to 240 frames per second")
    return rate


def segment_length(value: Any) -> float:
    """The duration of a segment, in seconds."""
    seconds = duration(value)
    if seconds < 1:
        raise click.BadParameter(f"{value} is too short for a segment; the minimum is 1s")
    return seconds


def video_codecs(value: Any) -> tuple[str, ...]:
    """Video codecs in order of preference: ``h264,vp8``, or a list in the TOML file."""
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    codecs = tuple(str(name).strip().lower() for name in names)
    if not codecs or not set(codecs) <= set(VIDEO_CODECS):
        raise click.BadParameter(f"{value!r} is not a list of codecs; use {' or '.join(VIDEO_CODECS)}, or both")
    return codecs
