"""The options, each written once: a flag, ``PEER_<OPTION>`` in the environment, a key in the configuration file.

A flag wins over the environment, that over the file, that over the default. Commands take them by the decorators
below and read them as ``Settings``.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click

from .. import config
from ..errors import ConfigError
from ..protocol import is_valid_id
from .group import COMMANDS

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


def _url(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith(("ws://", "wss://")):
        hint = f"ws{value[4:]}" if isinstance(value, str) and value.startswith("http") else "ws://127.0.0.1:8080/ws"
        raise click.BadParameter(f"{value!r} is no relay's address; write it like {hint}")
    return value


def any_text(value: Any) -> str:
    """The type of what is any text; a file may hold a list or number there, of which click would make a text."""
    if not isinstance(value, str):
        raise click.BadParameter(f"{value!r} is no text")
    return value


def _rate(value: Any) -> float:
    """The type of ``--fps``."""
    try:
        rate = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else float("nan")
    except (ValueError, OverflowError):  # OverflowError: TOML's whole numbers have no end
        rate = float("nan")
    if not 1 <= rate <= 240:  # nor nan
        raise click.BadParameter(f"{value!r} is not a number of pictures a second, 1 to 240")
    return rate


def _segment(value: Any) -> float:
    """The type of ``--segment``."""
    seconds = duration(value)
    if seconds < 1:
        raise click.BadParameter(f"{value} is too short for a file; 1s is the least")
    return seconds


_CODECS: Final = ("vp8", "h264")


def _codecs(value: Any) -> tuple[str, ...]:
    names = value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    codecs = tuple(str(name).strip().lower() for name in names)
    if not codecs or any(codec not in _CODECS for codec in codecs):
        raise click.BadParameter(f"{value!r}: write one or both of {', '.join(_CODECS)}, the first choice first")
    return codecs


def option(*names: str, group: str = "Options", **attributes: Any) -> Callable[[F], F]:
    """``click.option`` with the environment variable that belongs to its name."""
    long = next(name for name in names if name.startswith("--"))
    return click.option(*names, cls=_Option, group=group, envvar=_variable(long), **attributes)


def _variable(name: str) -> str:
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
        command: click.Command = import_module(f".{name}", __package__).command
        known[name] = {_key(param) for param in command.params if isinstance(param, _Option)} - {"config"}
    return known


def _key(param: click.Parameter) -> str:
    return next(name for name in param.opts if name.startswith("--")).removeprefix("--")


def _read_config(ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    """Put the file's values where click takes defaults from, each checked, so that a mistake names the file."""
    path = value or config.default_path()
    if ctx.resilient_parsing or (value is None and not _is_there(path)):
        return value
    found = config.load(path, known_options())[ctx.info_name or ""]
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
                type=_url,
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
            option("--fps", type=_rate, metavar="N", group=MEDIA, help="Pictures a second."),
            option(
                "--video-codec",
                type=_codecs,
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
            type=_segment,
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


def _filled_in(params: dict[str, Any]) -> dict[str, Any]:
    """What was left to us: a film, a stream or the test source brings its own sound, and .mp4 cannot hold VP8."""
    from ..media.sources.spec import parse_video

    context = click.get_current_context(silent=True)

    def open_(name: str) -> bool:
        default = click.core.ParameterSource.DEFAULT
        return context is not None and name in params and context.get_parameter_source(name) is default

    if params.get("segment") is not None and params["record"] is None and not open_("segment"):
        raise click.UsageError("--segment cuts recordings; write where to: --record PATH")
    filled = dict(params)
    if params.get("token_file") is not None:
        filled["token"] = _token(params)
    if open_("audio") and params["audio"] == "auto" and parse_video(params["video"]).kind in ("file", "rtsp", "test"):
        filled["audio"] = "same"
    mp4 = str(params.get("record") or "").lower().endswith(".mp4")
    if mp4 and params.get("video_codec") and "h264" not in params["video_codec"]:
        raise ConfigError(
            "no .mp4 holds VP8; record to .mkv or .webm, or add h264 to --video-codec", where="--record"
        )
    if open_("video_codec") and mp4:
        filled["video_codec"] = (
            "h264",
        )  # alone: who answers decides which of several it is (W3C setCodecPreferences)
    return filled


_NEAREST: Final = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")
"""Where a value came from (click's ``ParameterSource``), the one that wins first."""


def _token(params: dict[str, Any]) -> str | None:
    """The token itself, or what its file holds: whichever was said nearer to the command."""
    from server.auth import read_secret

    if params["token"] is not None:
        context = click.get_current_context()
        sources = [context.get_parameter_source(name) for name in ("token", "token_file")]
        own, file = (_NEAREST.index(source.name) if source else len(_NEAREST) for source in sources)
        if own == file:
            raise click.UsageError("--token and --token-file: use one of them")
        if own < file:
            return str(params["token"])
    where = "--token-file"
    try:
        return read_secret(params["token_file"], where).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{params['token_file']}: a token is text, in UTF-8", where=where) from None


def _warn_of_misspelt(environment: Iterable[str]) -> None:
    """A ``PEER_`` variable that is no option has no effect; nobody would notice."""
    named = sorted(name for name in environment if name.startswith("PEER_"))
    if not named:
        return  # all commands would be loaded to know their options
    known = {_variable(key) for keys in known_options().values() for key in keys} | {"PEER_CONFIG"}
    for name in named:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            _log.warning("%s in the environment is no option, and has no effect%s", name, hint)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of one run, as they came out of flag, environment, file and default."""

    as_json: bool = False
    verbose: int = 0
    quiet: int = 0
    log_format: str = "text"
    server: str = "ws://127.0.0.1:8080/ws"
    own_id: str | None = None
    room: str | None = None
    token: str | None = None
    cacert: str | None = None
    ice_servers: tuple[str, ...] = ()
    relay_only: bool = False
    video: str = "none"
    audio: str = "none"
    size: tuple[int, int] | None = None
    fps: float | None = None
    video_codec: tuple[str, ...] | None = None
    video_encoder: Literal["auto", "software"] = "auto"
    max_bitrate: int | None = None
    speaker: str = "none"
    show: bool | None = None
    record: str | None = None
    segment: float | None = None
    snapshot: str | None = None
    duration: float | None = None
    timeout: float = 15.0

    @classmethod
    def read(cls, params: dict[str, Any], *, quieter: int = 0) -> Settings:
        """The settings among a command's parameters; configures the logs on the way, ``quieter`` by so much."""
        from .logs import configure

        names = {item.name for item in fields(cls)}
        params = _filled_in(params)
        settings = cls(**{name: value for name, value in params.items() if name in names})
        configure(settings.log_format, settings.verbose - settings.quiet - quieter)
        _warn_of_misspelt(os.environ)
        return settings

    @property
    def windows(self) -> bool:
        """Whether to show windows: as asked, else where there is a display."""
        if self.show is not None:
            return self.show
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
