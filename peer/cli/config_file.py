"""The configuration file: TOML with one key per option, named like the option without the leading dashes.

    server = "wss://relay.example/ws"     # for every command that has --server
    ice-server = ["stun:stun.example:3478"]

    [run]                                  # only for `peer run`; overrides the keys above
    video = "/dev/video0"
    size = "1280x720"

    [camera.controls]                      # the same as camera-control = ["brightness=10", "focus_auto=false"]
    brightness = 10
    focus_auto = false

Pure, apart from reading the file. The caller passes the known keys, which ``peer.cli.command`` collects.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

from ..errors import ConfigError, first_of

Options = Mapping[str, Collection[str]]
"""The keys that each command has: ``{"call": {"server", "id", …}, …}``."""

Check = Callable[[str, str, Any], str | None]
"""Returns why the value of a command's key is invalid, or ``None``."""


_CAMERA: Final = "camera"
_CONTROLS: Final = "controls"
_CONTROL_OPTION: Final = "camera-control"
"""``[camera.controls]``, and the option that it stands for."""


def default_path() -> Path:
    """``$XDG_CONFIG_HOME/peer/config.toml``; ``~/.config`` if the variable is unset or not absolute."""
    base = os.environ.get("XDG_CONFIG_HOME", "")
    folder = Path(base) if os.path.isabs(base) else Path(os.path.expanduser("~")) / ".config"
    return folder / "peer" / "config.toml"


def _accept(_command: str, _key: str, _value: Any) -> None:
    """Accept every value."""


def load(path: Path, options: Options, check: Check = _accept) -> dict[str, dict[str, Any]]:
    """Read the file ``path`` and return the values of each command in ``options``.

    Raises:
        ConfigError: the file cannot be read, is not TOML, or has an unknown key or table, or an invalid value. The
            error names the file and the most similar key, and has all further mistakes in its ``others``.
    """
    try:
        body = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as exc:
        raise ConfigError(exc.strerror or str(exc), where=str(path)) from None
    except (ValueError, RecursionError) as exc:  # also integers and nesting beyond Python's limits
        raise ConfigError(f"invalid TOML: {exc}", where=str(path)) from None
    return arrange(body, options, where=str(path), check=check)


def arrange(
    body: Mapping[str, Any], options: Options, *, where: str, check: Check = _accept
) -> dict[str, dict[str, Any]]:
    """Return the values of each command: those at the top level, overridden by those in its table.

    Raises:
        ConfigError: an unknown key or table, a table where an option is expected, or a value that ``check`` rejects.
    """
    all_keys = {key for keys in options.values() for key in keys}
    values: dict[str, dict[str, Any]] = {command: {} for command in options}
    tables: dict[str, Mapping[str, Any]] = {}
    mistakes: list[ConfigError] = []
    for key, value in _with_controls(body).items():
        if isinstance(value, dict) and key in options:
            tables[key] = value
            continue
        if key not in all_keys:
            mistakes.append(
                _unknown_table(key, options, where) if isinstance(value, dict) else _unknown_key(key, all_keys, where)
            )
            continue
        if isinstance(value, dict):
            mistakes.append(ConfigError(f"{key} is an option, not a table", where=where))
            continue
        for command, keys in options.items():
            if key in keys:
                values[command][key] = value
    for command, table in tables.items():
        for key, value in table.items():
            if key not in options[command]:
                mistakes.append(_unknown_key(key, options[command], f"{where}, [{command}]"))
                continue
            values[command][key] = value
    for command, given in values.items():
        for key, value in given.items():
            if (why := check(command, key, value)) is not None:
                mistakes.append(ConfigError(why, where=f"{where}: {key}"))
    if mistakes:
        raise first_of(mistakes)
    return values


def _with_controls(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``body`` with the table ``[camera.controls]`` as the option that it stands for."""
    camera = body.get(_CAMERA)
    if not isinstance(camera, dict) or set(camera) != {_CONTROLS} or not isinstance(camera[_CONTROLS], dict):
        return body
    pairs = [f"{name}={str(value).lower()}" for name, value in camera[_CONTROLS].items()]
    others = {key: value for key, value in body.items() if key != _CAMERA}
    given = others.get(_CONTROL_OPTION, [])
    return others | {_CONTROL_OPTION: [*(given if isinstance(given, list) else [given]), *pairs]}


def _unknown_key(key: str, known: Collection[str], where: str) -> ConfigError:
    close = _closest(key, known)
    hint = f"; did you mean {close}?" if close else f"; known keys: {', '.join(sorted(known))}"
    shown = f'"{key}"' if key.isprintable() else repr(key)  # a quoted key may contain line breaks
    return ConfigError(f"unknown key {shown}{hint}", where=where)


def _unknown_table(key: str, commands: Collection[str], where: str) -> ConfigError:
    if key == _CAMERA:
        why = "[camera] has one table, [camera.controls], with a number or true or false per key"
        return ConfigError(why, where=where)
    close = _closest(key, commands)
    hint = f"did you mean [{close}]?" if close else f"tables are named after commands: {', '.join(sorted(commands))}"
    shown = f"[{key}]" if key.isprintable() else f"[{key!r}]"
    return ConfigError(f"unknown table {shown}; {hint}", where=where)


def _closest(key: str, known: Collection[str]) -> str | None:
    return next(iter(difflib.get_close_matches(key.replace("_", "-"), sorted(known), n=1, cutoff=0.5)), None)
