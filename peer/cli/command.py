"""A command and its options: a flag, ``PEER_<OPTION>`` in the environment, or a key of the configuration file.

Precedence, strongest first: flag, environment variable, file, default.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from . import config_file, logs
from .root import COMMANDS

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: Final = "Options"
OUTPUT: Final = "Output"
"""Headings in the help: for the options of a single command, and for those of all commands."""


class Command(click.Command):
    """A command that shows its options in groups, under the headings of ``option``."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {OPTIONS: []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                heading = param.group if isinstance(param, Option) else OUTPUT  # click's own --help
                groups.setdefault(heading, []).append(record)
        for heading, records in groups.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


class Option(click.Option):
    """An option with a group in the help. ``key`` is its name in the configuration file."""

    def __init__(self, *args: Any, group: str = OPTIONS, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.group = group
        self.key = next(name for name in self.opts if name.startswith("--")).removeprefix("--")
        self.envvar = variable(self.key)

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """The origin of an invalid value: the environment variable if it came from there, otherwise the flag."""
        environment = click.core.ParameterSource.ENVIRONMENT
        if ctx is not None and self.name is not None and ctx.get_parameter_source(self.name) is environment:
            return f"{self.envvar}"
        return super().get_error_hint(ctx)


def option(*names: str, group: str = OPTIONS, **attributes: Any) -> Callable[[F], F]:
    """``click.option`` that also comes from the environment and the configuration file."""
    return click.option(*names, cls=Option, group=group, **attributes)


def variable(key: str) -> str:
    """The environment variable of an option: ``PEER_VIDEO_CODEC`` for ``video-codec``."""
    return "PEER_" + key.replace("-", "_").upper()


def together(options: Iterable[Callable[[Any], Any]]) -> Callable[[F], F]:
    """One decorator that adds several options, listed in the help in this order."""

    def decorate(function: F) -> F:
        for add in reversed(list(options)):
            function = add(function)
        return function

    return decorate


def known_options() -> dict[str, set[str]]:
    """The keys that a configuration file may set, by command. Imports all commands."""
    known: dict[str, set[str]] = {}
    for name in COMMANDS:
        command: click.Command = import_module(f".commands.{name}", __package__).command
        known[name] = set(_by_key(command)) - {"config"}
    return known


def _by_key(command: click.Command) -> dict[str, Option]:
    return {param.key: param for param in command.params if isinstance(param, Option)}


def read_config_file(ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """Callback of ``--config``: makes the values of the file the defaults of this command's options.

    Raises:
        ConfigError: the file cannot be read, or a value is invalid. The error names the file and the key, and has all
            further mistakes in its ``others``.
    """
    path = value or config_file.default_path()
    if ctx.resilient_parsing or (value is None and not _exists(path)):
        return value
    options, own = _by_key(ctx.command), ctx.info_name or ""

    def check(command: str, key: str, value: Any) -> str | None:
        if command != own:
            return None
        if (key, value) == ("log-format", "json"):  # now, because the mistakes of this file are logged, too
            logs.configure("json", 0)
        try:
            options[key].type_cast_value(ctx, _listed(options[key], value))
        except click.BadParameter as error:
            return error.message
        return None

    values = config_file.load(path, known_options(), check)[own]
    ctx.default_map = {options[key].name or "": _listed(options[key], given) for key, given in values.items()}
    return value


def _listed(param: click.Parameter, given: Any) -> Any:
    """Return ``given`` as a list if the option can be repeated."""
    return [given] if param.multiple and not isinstance(given, list) else given


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # the home folder of a service may be unreadable; then there is no file
        return False
