"""The options of ``peer serve`` that bound what others may do (docs/limits.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ..command import option
from ..param_types import any_text, duration

F = TypeVar("F", bound=Callable[..., Any])

LIMITS: Final = "Limits; 0 or none is no limit"

_UNITS: Final = {"": 1, "k": 1024, "M": 1024**2, "G": 1024**3}


def count(value: Any) -> int:
    """The type of a number that may be ``none``, which is 0."""
    text = str(value)
    if text == "none":
        return 0
    if isinstance(value, bool) or re.fullmatch(r"\d{1,12}", text, re.ASCII) is None:
        raise click.BadParameter(f"{value!r} is no number; write it like 500, or none")
    return int(text)


def size(value: Any) -> int:
    """The type of a number of octets that may be ``none``, which is 0: ``256k``, ``1M``; k is 1024."""
    text = str(value)
    if text == "none":
        return 0
    found = re.fullmatch(r"(\d{1,12})([kMG]?)", text, re.ASCII)
    if found is None or isinstance(value, bool):
        raise click.BadParameter(f"{value!r} is no size; write it like 256k or 1M, or none")
    return int(found[1]) * _UNITS[found[2]]


def _frame(value: Any) -> int:
    """The type of ``--max-frame``: peers have to be able to say something, and memory to hold it."""
    octets = size(value)
    if not 8 * 1024 <= octets <= 16 * 1024**2:
        raise click.BadParameter(f"{value!r} is no size of a frame; 8k is the least, 16M the most")
    return octets


_OPTIONS: Final[tuple[tuple[str, Callable[[Any], Any], str, str, str], ...]] = (
    ("--message-rate", count, "500", "N", "Messages a second of one connection."),
    ("--octet-rate", size, "1M", "SIZE", "Octets a second of one connection."),
    ("--copy-rate", count, "5000", "N", "Copies a second that its messages to all become."),
    ("--address-sockets", count, "500", "N", "Connections of one address."),
    ("--address-connect-rate", count, "1200", "N", "New connections a minute of one address."),
    ("--address-join-rate", count, "600", "N", "Joins a minute of one address."),
    ("--address-message-rate", count, "2000", "N", "Messages a second of one address."),
    ("--address-octet-rate", size, "4M", "SIZE", "Octets a second of one address."),
    ("--address-copy-rate", count, "20000", "N", "Copies a second of one address."),
    ("--max-connections", count, "20000", "N", "Connections; fewer where the descriptors do not suffice."),
    ("--max-rooms", count, "none", "N", "Rooms."),
    ("--max-room-peers", count, "2000", "N", "Peers of one room."),
    ("--max-buffers", size, "256M", "SIZE", "Octets that may wait for and of all clients together."),
    ("--max-frame", _frame, "256k", "SIZE", "Octets of a message."),
    ("--join-timeout", duration, "10s", "TIME", "From the connection to the join, TLS and HTTP included."),
)

_NAMES: Final = tuple(name.removeprefix("--").replace("-", "_") for name, *_ in _OPTIONS)


def limit_options(function: F) -> F:
    """Add them, and ``--exempt``."""
    add = option(
        "--exempt",
        type=any_text,
        multiple=True,
        default=("127.0.0.0/8", "::1"),
        metavar="NETWORK",
        group=LIMITS,
        help="Whose address has no limits, repeatable; none: nobody's.  [default: this machine's]",
    )
    function = add(function)
    for name, kind, default, metavar, text in reversed(_OPTIONS):
        add = option(name, type=kind, default=default, show_default=True, metavar=metavar, group=LIMITS, help=text)
        function = add(function)
    return function


def limits(params: dict[str, Any]) -> dict[str, Any]:
    """What was given of them, as parameters of ``RelayConfig``."""
    exempt = params["exempt"]
    return {name: params[name] for name in _NAMES} | {"exempt": () if exempt == ("none",) else exempt}
