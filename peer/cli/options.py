"""The options, each written once: a flag, ``PEER_<OPTION>`` in the environment, a key in the configuration file.

A flag wins over the environment, that over the file, that over the default. Commands take them by the decorators
below and read them as ``settings.Settings``; ``values`` has their types.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ..errors import ConfigError
from . import config_file
from .param_types import any_text, codecs, duration, parsed, path, peer_id, rate, relay_url, segment_length
from .root import COMMANDS

_log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

RELAY: Final = "Relay"
MEDIA: Final = "Sources: what you send"
SINKS: Final = "Sinks: what becomes of what you get"
OUTPUT: Final = "Output"


class Command(click.Command):
    """A command whose help shows its options in groups, and which reads the configuration file."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(param, "group", OUTPUT), []).append(record)
        for name, records in groups.items():
            if not records:
                continue
            with formatter.section(name):
                formatter.write_dl(records)


class _Option(click.Option):
    def __init__(self, *args: Any, group: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """What a mistake is blamed on: the environment variable where the value came from there."""
        from_there = click.core.ParameterSource.ENVIRONMENT
        if ctx is not None and self.name is not None and ctx.get_parameter_source(self.name) is from_there:
            return f"{self.envvar}"
        return super().get_error_hint(ctx)


def option(*names: str, group: str = "Options", **attributes: Any) -> Callable[[F], F]:
    """``click.option`` with the environment variable that belongs to its name."""
    long = next(name for name in names if name.startswith("--"))
    return click.option(*names, cls=_Option, group=group, envvar=variable(long), **attributes)


def variable(name: str) -> str:
    """The environment variable of the option ``name``: ``--video-codec`` is ``PEER_VIDEO_CODEC``."""
    return "PEER_" + name.partition("/")[0].lstrip("-").replace("-", "_").upper()


def _together(options: Iterable[Callable[[Any], Any]]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for add in reversed(list(options)):
            function = add(function)
        return function

    return decorate


def known_options() -> dict[str, set[str]]:
    """Of each command, the options a configuration file may set."""
    known: dict[str, set[str]] = {}
    for name in COMMANDS:
        command: click.Command = import_module(f".commands.{name}", __package__).command
        known[name] = {_key(param) for param in command.params if isinstance(param, _Option)} - {"config"}
    return known


def _key(param: click.Parameter) -> str:
    return next(name for name in param.opts if name.startswith("--")).removeprefix("--")


def _read_config(ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """Put the file's values where click takes defaults from, each checked, so that a mistake names the file."""
    path = value or config_file.default_path()
    if ctx.resilient_parsing or (value is None and not _is_there(path)):
        return value
    found = config_file.load(path, known_options())[ctx.info_name or ""]
    by_key = {_key(param): param for param in ctx.command.params if isinstance(param, _Option)}
    ctx.default_map = {}
    for key, given in found.items():
        param = by_key[key]
        listed = [given] if param.multiple and not isinstance(given, list) else given
        try:
            param.type_cast_value(ctx, listed)
        except click.BadParameter as error:
            raise ConfigError(error.message, where=f"{path}: {key}") from None
        ctx.default_map[param.name or ""] = listed
    return value


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that we may not look into, as a service's home: the user has no file for us there
        return False


_CONFIG = option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    is_eager=True,
    callback=_read_config,
    metavar="FILE",
    group=OUTPUT,
    help="A TOML file with these options.  [default: ~/.config/peer/config.toml]",
)
_JSON = option("--json", "as_json", is_flag=True, group=OUTPUT, help="One JSON object a line on standard output.")

output_options = _together(
    [
        _CONFIG,
        _JSON,
        option("-v", "--verbose", count=True, group=OUTPUT, help="More logs; twice for the libraries' too."),
        option("-q", "--quiet", count=True, group=OUTPUT, help="Warnings only; twice for errors only."),
        option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            group=OUTPUT,
            help="Of the logs, on standard error.  [default: text]",
        ),
    ]
)

_TOKEN = (
    option(
        "--token",
        type=any_text,
        metavar="TOKEN",
        group=RELAY,
        help="What the relay lets you in for. Others see a command line: better PEER_TOKEN, or --token-file.",
    ),
    option("--token-file", type=path, metavar="FILE", group=RELAY, help="A file with the token."),
)
token_options = _together(_TOKEN)


def joining(own_id: str) -> Callable[[F], F]:
    """How to join. ``own_id`` is the command's default id, in words."""
    return _together(
        [
            option(
                "--server",
                type=relay_url,
                default="ws://127.0.0.1:8080/ws",
                show_default=True,
                metavar="URL",
                group=RELAY,
                help="The relay, ws:// or wss://.",
            ),
            option(
                "--id", "own_id", type=peer_id, metavar="ID", group=RELAY, help=f"Who you are.  [default: {own_id}]"
            ),
            option(
                "--room", type=peer_id, metavar="ROOM", group=RELAY, help="Only peers of one room see each other."
            ),
            *_TOKEN,
            option(
                "--cacert",
                type=path,
                metavar="FILE",
                group=RELAY,
                help="Certificates, in PEM, that a wss:// relay must come from.  [default: the system's]",
            ),
            option(
                "--ice-server",
                "ice_servers",
                type=any_text,
                multiple=True,
                metavar="URL",
                group=RELAY,
                help="STUN or TURN, repeatable: turn:user:pass@host:port?transport=tcp.  [default: the relay's]",
            ),
            option("--relay-only", is_flag=True, group=RELAY, help="Media by way of the TURN server only."),
        ]
    )


join_options = joining("host name, kept")


def media_options(*, video: str, audio: str) -> Callable[[F], F]:
    """What is sent. ``video`` and ``audio`` are the command's defaults."""
    return _together(
        [
            option(
                "--video",
                type=parsed("parse_video", as_text=True),
                default=video,
                show_default=True,
                metavar="SOURCE",
                group=MEDIA,
                help="auto, none, test, screen, a device, a file or rtsp://…",
            ),
            option(
                "--audio",
                type=parsed("parse_audio", as_text=True),
                default=audio,
                show_default=True,
                metavar="SOURCE",
                group=MEDIA,
                help="auto, none, same (as --video), test, a device, a file or rtsp://…",
            ),
            option("--size", type=parsed("parse_size"), metavar="WxH", group=MEDIA, help="Like 1280x720."),
            option("--fps", type=rate, metavar="N", group=MEDIA, help="Pictures a second."),
            option(
                "--video-codec",
                type=codecs,
                metavar="LIST",
                group=MEDIA,
                help="The first choice first.  [default: vp8,h264; where the source delivers H.264 h264,vp8]",
            ),
            option(
                "--video-encoder",
                type=click.Choice(["auto", "software"]),
                default="auto",
                show_default=True,
                group=MEDIA,
                help="software: leave the machine's own encoders alone.",
            ),
            option(
                "--max-bitrate",
                type=parsed("parse_bitrate"),
                metavar="RATE",
                group=MEDIA,
                help="Of the picture, in bits a second: 2500k, 4M.",
            ),
        ]
    )


def sink_options(*, speaker: str) -> Callable[[F], F]:
    """What becomes of what is received. ``speaker`` is the command's default."""
    return _together(
        [
            option(
                "--speaker",
                type=any_text,
                default=speaker,
                show_default=True,
                metavar="DEVICE",
                group=SINKS,
                help="auto, none or a device.",
            ),
            option(
                "--show/--no-show",
                default=None,
                group=SINKS,
                help="Windows: your own picture and one a peer.  [default: on where there is a display]",
            ),
        ]
    )


file_options = _together(
    [
        option(
            "--record",
            type=path,
            metavar="PATH",
            group=SINKS,
            help="Record each call. {peer} and {time} are filled in; a folder gets a file a call.",
        ),
        option(
            "--segment",
            type=segment_length,
            metavar="TIME",
            group=SINKS,
            help="Begin a new file of a recording each so often; without {time} they are numbered.",
        ),
        option(
            "--snapshot",
            type=path,
            metavar="PATH",
            group=SINKS,
            help="Save the first picture of each call.",
        ),
    ]
)


def duration_option(text: str) -> Callable[[F], F]:
    """``--duration``, with the command's own explanation."""
    return option("--duration", type=duration, metavar="TIME", help=text)
