"""The types of options: what somebody wrote, on the command line, in the environment or in a TOML file, to a value.

Each raises ``click.BadParameter``, which says what was wrong and how to write it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import click

from ..errors import ConfigError
from ..signaling.messages import is_valid_id


def parsed(function: str, *, as_text: bool = False) -> Callable[[Any], Any]:
    """A type that ``<function>`` of ``peer.media.sources.spec`` reads; the value is its result, or the text itself
    (``as_text``)."""

    def convert(value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(
            value, str | int | float
        ):  # int, float: a number in the TOML file
            raise click.BadParameter(f"{value!r} cannot be used here")
        try:
            result = getattr(import_module("peer.media.sources.spec"), function)(str(value))
        except ConfigError as error:
            raise click.BadParameter(error.message) from None
        return value if as_text else result

    return convert


def duration(value: Any) -> float:
    """The type of a time that is more than 0."""
    if isinstance(value, float) and 0 < value < math.inf:  # TOML has negative ones, inf and nan
        return value
    return float(parsed("parse_duration")(value))


def duration_or_zero(value: Any) -> float:
    """The type of a time that may be 0, for what 0 turns off."""
    return 0.0 if str(value) in ("0", "0s", "0.0") else duration(value)


def peer_id(value: Any) -> str:
    """The type of an id. One that begins with ``--`` is an option that its forerunner swallowed."""
    if not is_valid_id(value):
        raise click.BadParameter(f"{str(value)[:80]!r} is no id: 1 to 64 of A-Z a-z 0-9 . _ ~ -")
    if str(value).startswith("--"):
        raise click.BadParameter(f"an id is missing before {value}")
    return str(value)


def path(value: Any) -> str:
    """The type of a file to write."""
    text = any_text(value)
    if not text or text.startswith("--"):
        raise click.BadParameter(f"a path is missing before {text}" if text else "the path is empty")
    return text


def relay_url(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith(("ws://", "wss://")):
        hint = f"ws{value[4:]}" if isinstance(value, str) and value.startswith("http") else "ws://127.0.0.1:8080/ws"
        raise click.BadParameter(f"{value!r} is no relay's address; write it like {hint}")
    return value


def any_text(value: Any) -> str:
    """The type of what is any text; a file may hold a list or number there, of which click would make a text."""
    if not isinstance(value, str):
        raise click.BadParameter(f"{value!r} is no text")
    return value


def rate(value: Any) -> float:
    """The type of ``--fps``."""
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else float("nan")
    except (ValueError, OverflowError):  # OverflowError: TOML's whole numbers have no end
        found = float("nan")
    if not 1 <= found <= 240:  # nor nan
        raise click.BadParameter(f"{value!r} is not a number of pictures a second, 1 to 240")
    return found


def segment_length(value: Any) -> float:
    """The type of ``--segment``."""
    seconds = duration(value)
    if seconds < 1:
        raise click.BadParameter(f"{value} is too short for a file; 1s is the least")
    return seconds


_CODECS: Final = ("vp8", "h264")


def codecs(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    found = tuple(str(name).strip().lower() for name in names)
    if not found or any(codec not in _CODECS for codec in found):
        raise click.BadParameter(f"{value!r}: write one or both of {', '.join(_CODECS)}, the first choice first")
    return found
