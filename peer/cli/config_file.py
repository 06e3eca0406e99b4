"""The configuration file: TOML, one key an option, named like the option without its dashes in front.

    server = "wss://relay.example/ws"     # for every command that has --server
    ice-server = ["stun:stun.example:3478"]

    [run]                                  # for `peer run` only, over the keys above
    video = "/dev/video0"
    size = "1280x720"

Pure apart from reading the file. Which keys there are is told by the command line, the one home of options.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError

Options = Mapping[str, Collection[str]]
"""The options of each command: ``{"call": {"server", "id", …}, …}``."""


def default_path() -> Path:
    """``$XDG_CONFIG_HOME/peer/config.toml``, or the same below ``~/.config``."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".config"
    return folder / "peer" / "config.toml"


def load(path: Path, options: Options) -> dict[str, dict[str, Any]]:
    """The values in the file ``path``, for each command of ``options``.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has a key or table that is no option or command.
            The error names the file, and the closest key there is.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(exc.strerror or str(exc), where=str(path)) from None
    except (ValueError, RecursionError) as exc:  # a number too long for Python, brackets too deep; else tomllib's own
        raise ConfigError(f"not TOML: {exc}", where=str(path)) from None
    return arrange(body, options, where=str(path))


def arrange(body: Mapping[str, Any], options: Options, *, where: str) -> dict[str, dict[str, Any]]:
    """Give every command its values: the keys at the top that it has, then those of its own table."""
    everything = {key for keys in options.values() for key in keys}
    values: dict[str, dict[str, Any]] = {command: {} for command in options}
    tables: dict[str, Mapping[str, Any]] = {}
    for key, value in body.items():
        if isinstance(value, dict) and key in options:
            tables[key] = value
            continue
        if key not in everything:
            _refuse(key, everything | set(options), where)
        if isinstance(value, dict):
            raise ConfigError(f"{key} is an option, not a table", where=where)
        for command, keys in options.items():
            if key in keys:
                values[command][key] = value
    for command, table in tables.items():
        for key, value in table.items():
            if key not in options[command]:
                _refuse(key, options[command], f"{where}, [{command}]")
            values[command][key] = value
    return values


def _refuse(key: str, known: Collection[str], where: str) -> None:
    close = difflib.get_close_matches(key.replace("_", "-"), sorted(known), n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"
    shown = f'"{key}"' if key.isprintable() else repr(key)  # a quoted key may hold line breaks
    raise ConfigError(f"unknown key {shown}{hint}", where=where)
