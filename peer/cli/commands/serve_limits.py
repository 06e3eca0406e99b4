"""The options of ``peer serve`` that limit its clients (docs/limits.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

import click

from server.config import RelayConfig

from ..command import F, together
from ..options import RELAY, declared
from ..param_types import any_text, duration, duration_text

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


def _without_none(_ctx: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    return () if value == ("none",) else value


def count_text(limit: float) -> str:
    """``limit`` as ``count`` accepts it."""
    return f"{limit:.0f}" if limit else "none"


def size_text(limit: int) -> str:
    """``limit`` as ``size`` accepts it, in the largest unit that divides it."""
    unit = max((unit for unit, factor in _UNITS.items() if limit % factor == 0), key=_UNITS.__getitem__)
    return f"{limit // _UNITS[unit]}{unit}" if limit else "none"


def _count(name: str) -> Callable[[F], F]:
    return declared(RelayConfig, name, type=count, shown=count_text, metavar="N", group=LIMITS)


def _size(name: str, *flags: str) -> Callable[[F], F]:
    return declared(RelayConfig, name, *flags, type=size, shown=size_text, metavar="SIZE", group=LIMITS)


limit_options = together(
    [
        _count("message_rate"),
        _size("byte_rate", "--octet-rate"),
        _count("copy_rate"),
        _count("address_sockets"),
        _count("address_connect_rate"),
        _count("address_join_rate"),
        _count("address_message_rate"),
        _size("address_byte_rate", "--address-octet-rate"),
        _count("address_copy_rate"),
        _count("max_connections"),
        _count("max_rooms"),
        _count("max_room_peers"),
        _size("max_buffers"),
        declared(RelayConfig, "max_frame", type=_message_size, shown=size_text, metavar="SIZE", group=RELAY),
        declared(RelayConfig, "join_timeout", type=duration, shown=duration_text, metavar="TIME", group=RELAY),
        declared(
            RelayConfig,
            "exempt",
            type=any_text,
            multiple=True,
            callback=_without_none,
            metavar="NETWORK",
            group=LIMITS,
        ),
    ]
)
