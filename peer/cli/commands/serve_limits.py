"""The options of ``peer serve`` that limit its clients (docs/limits.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from ..command import option
from ..param_types import any_text, duration

F = TypeVar("F", bound=Callable[..., Any])

LIMITS: Final = "Limits (0 or none: no limit)"

_UNITS: Final = {"": 1, "k": 1024, "M": 1024**2, "G": 1024**3}


def count(value: Any) -> int:
    """A number; ``none`` is 0."""
    text = str(value)
    if text == "none":
        return 0
    if isinstance(value, bool) or re.fullmatch(r"\d{1,12}", text, re.ASCII) is None:
        raise click.BadParameter(f"{value!r} is not a number; write it like 500, or none")
    return int(text)


def size(value: Any) -> int:
    """A size in bytes, such as ``256k`` or ``1M``, where k is 1024; ``none`` is 0."""
    text = str(value)
    if text == "none":
        return 0
    found = re.fullmatch(r"(\d{1,12})([kMG]?)", text, re.ASCII)
    if found is None or isinstance(value, bool):
        raise click.BadParameter(f"{value!r} is not a size; write it like 256k or 1M, or none")
    return int(found[1]) * _UNITS[found[2]]


def _message_size(value: Any) -> int:
    """A size for ``--max-frame``: large enough for an offer, small enough for the memory budget."""
    limit = size(value)
    if not 8 * 1024 <= limit <= 16 * 1024**2:
        raise click.BadParameter(f"{value!r} is out of range; use 8k to 16M")
    return limit


_OPTIONS: Final[tuple[tuple[str, Callable[[Any], Any], str, str, str], ...]] = (
    ("--message-rate", count, "500", "N", "Messages per second per connection."),
    ("--octet-rate", size, "1M", "SIZE", "Bytes per second per connection."),
    ("--copy-rate", count, "5000", "N", "Copies per second per connection; a broadcast to 20 peers counts as 20."),
    ("--address-sockets", count, "500", "N", "Connections per address."),
    ("--address-connect-rate", count, "1200", "N", "New connections per minute per address."),
    ("--address-join-rate", count, "600", "N", "Joins per minute per address."),
    ("--address-message-rate", count, "2000", "N", "Messages per second per address."),
    ("--address-octet-rate", size, "4M", "SIZE", "Bytes per second per address."),
    ("--address-copy-rate", count, "20000", "N", "Copies per second per address."),
    ("--max-connections", count, "20000", "N", "Concurrent connections; fewer if the limit of open files is lower."),
    ("--max-rooms", count, "none", "N", "Rooms."),
    ("--max-room-peers", count, "2000", "N", "Peers per room."),
    ("--max-buffers", size, "256M", "SIZE", "Memory budget for all clients: unsent data and partial messages."),
    ("--max-frame", _message_size, "256k", "SIZE", "Maximum size of a message."),
    ("--join-timeout", duration, "10s", "TIME", "Time limit from connecting to joining, TLS and HTTP included."),
)


def _without_none(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return () if value == ("none",) else value


def limit_options(function: F) -> F:
    """Add all limits and ``--exempt`` to a command."""
    add = option(
        "--exempt",
        type=any_text,
        multiple=True,
        default=("127.0.0.0/8", "::1"),
        callback=_without_none,
        metavar="NETWORK",
        group=LIMITS,
        help="Addresses without limits of their own, repeatable; none exempts no address.  [default: this machine]",
    )
    function = add(function)
    for name, kind, default, metavar, text in reversed(_OPTIONS):
        add = option(name, type=kind, default=default, show_default=True, metavar=metavar, group=LIMITS, help=text)
        function = add(function)
    return function
