"""The options of one run, read: what was left open is filled in, and what contradicts itself is told at once."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import click

from ..errors import ConfigError
from .options import known_options, variable

_log = logging.getLogger(__name__)


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
    from server.admission.secret_files import read_secret

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
    known = {variable(key) for keys in known_options().values() for key in keys} | {"PEER_CONFIG"}
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
