"""The options of one run: what depends on other options is filled in, and contradictions are errors."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final

import click

from ..errors import ConfigError
from ..options import MediaOptions, RelayOptions
from .command import known_options, variable

_log = logging.getLogger(__name__)

_PRECEDENCE: Final = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")
"""Origins of a value, the strongest first: click's ``ParameterSource``. ``DEFAULT_MAP`` is the configuration file."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The options of one run, from flags, environment, file and defaults. An option that the command does not have
    keeps the default of its field. ``--log-format json`` implies ``--json``: a service has one stream of output."""

    relay: RelayOptions
    media: MediaOptions
    as_json: bool = False
    verbose: int = 0
    quiet: int = 0
    log_format: str = "text"
    record: str | None = None
    segment: float | None = None
    snapshot: str | None = None
    duration: float | None = None
    timeout: float = 15.0

    @classmethod
    def read(cls, params: dict[str, Any], *, quieter: int = 0) -> Settings:
        """The settings among a command's parameters. Configures logging, ``quieter`` levels less verbose.

        Raises:
            ConfigError, click.UsageError: options that contradict each other; a token file that cannot be read.
        """
        from .logs import configure

        log_format = params.get("log_format", cls.log_format)
        configure(log_format, params.get("verbose", 0) - params.get("quiet", 0) - quieter)
        values = _resolved(params | {"as_json": params.get("as_json", False) or log_format == "json"})
        settings = cls(
            relay=RelayOptions(**_fields_of(RelayOptions, values)),
            media=MediaOptions(**_fields_of(MediaOptions, values)),
            **_fields_of(cls, values),
        )
        _warn_of_unknown_variables(os.environ)
        return settings


def _fields_of(made: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    return {item.name: values[item.name] for item in fields(made) if item.name in values}


def _resolved(params: dict[str, Any]) -> dict[str, Any]:
    """``params`` with the values that depend on other options or on the machine."""
    values = dict(params)
    record = params.get("record")
    if params.get("segment") is not None and record is None:
        raise click.UsageError("--segment needs a recording: add --record PATH")
    if params.get("token_file") is not None:
        values["token"] = _token(params)
    if "show" in params and params["show"] is None:
        values["show"] = bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if is_default("audio") and params["audio"] == "auto" and _has_audio_of_its_own(params["video"]):
        values["audio"] = "same"
    if record is not None and record.lower().endswith(".mp4"):
        if params.get("video_codec") and "h264" not in params["video_codec"]:
            raise ConfigError(
                ".mp4 files cannot hold VP8: record to .mkv or .webm, or add h264 to --video-codec", where="--record"
            )
        if is_default("video_codec"):
            # H.264 alone: among several codecs, the answerer chooses (W3C setCodecPreferences).
            values["video_codec"] = ("h264",)
    return values


def is_default(name: str) -> bool:
    """Whether the command has this parameter, and neither a flag nor the environment or the file sets it."""
    context = click.get_current_context(silent=True)
    return context is not None and context.get_parameter_source(name) is click.core.ParameterSource.DEFAULT


def _has_audio_of_its_own(video: str) -> bool:
    from ..media.sources.spec import parse_video

    return parse_video(video).kind in ("file", "rtsp", "test")


def _token(params: dict[str, Any]) -> str:
    """The value of ``--token`` or the content of ``--token-file``, whichever takes precedence."""
    from server.admission.secret_files import read_secret

    option = "--token-file"
    if params["token"] is not None:
        context = click.get_current_context()
        sources = [context.get_parameter_source(name) for name in ("token", "token_file")]
        token, file = (_PRECEDENCE.index(source.name) if source else len(_PRECEDENCE) for source in sources)
        if token == file:
            raise click.UsageError("--token and --token-file exclude each other: use one of them")
        if token < file:
            return str(params["token"])
    try:
        return read_secret(params["token_file"], option).decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{params['token_file']} is not UTF-8 text", where=option) from None


def _warn_of_unknown_variables(environment: Iterable[str]) -> None:
    """Log a warning for each ``PEER_`` variable that is not an option: a typing error would go unnoticed."""
    named = sorted(name for name in environment if name.startswith("PEER_"))
    if not named:
        return  # known_options() imports all commands
    known = {variable(key) for keys in known_options().values() for key in keys} | {"PEER_CONFIG"}
    for name in named:
        if name not in known:
            close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
            hint = f"; did you mean {close[0]}?" if close else ""
            _log.warning("environment variable %s is ignored: there is no such option%s", name, hint)
