"""Options that several commands share, and the syntax of those that ``peer.options`` declares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from ..options import VIDEO_ENCODERS, MediaOptions, RelayOptions
from .command import OUTPUT, F, option, read_config_file, together
from .param_types import (
    any_text,
    duration,
    frame_rate,
    parsed_by,
    path,
    peer_id,
    relay_url,
    segment_length,
    video_codecs,
)

RELAY: Final = "Relay"
SOURCES: Final = "Sources (what this peer sends)"
SINKS: Final = "Sinks (what happens to received media)"


def declared(
    options: type[Any],
    name: str,
    *flags: str,
    note: str = "",
    unset: str | None = None,
    shown: Callable[[Any], Any] = lambda default: default,
    **attributes: Any,
) -> Callable[[F], F]:
    """The field ``name`` of ``options``, a dataclass of declared options, as a command line option.

    Args:
        flags: as click takes them; without any, ``--name``.
        note: added to the description of the field.
        unset: what the default is, in words, instead of the field's.
        shown: writes the default of the field as a user would, such as ``1h`` for 3600.
        attributes: of ``click.option``; without a ``default``, that of the field applies.
    """
    field = options.__dataclass_fields__[name]
    default = attributes.setdefault("default", shown(field.default))
    unset = unset or field.metadata["unset"]
    text = " ".join(
        part for part in (field.metadata["description"], note, f" [default: {unset}]" if unset else "") if part
    )
    flags = flags or ("--" + name.replace("_", "-"),)
    has_default = not unset and default not in (None, ()) and default is not False
    return option(*flags, name, help=text, show_default=has_default, **attributes)


output_options = together(
    [
        option(
            "--config",
            type=click.Path(dir_okay=False, path_type=Path),
            is_eager=True,
            callback=read_config_file,
            metavar="FILE",
            group=OUTPUT,
            help="TOML file with values for these options.  [default: ~/.config/peer/config.toml]",
        ),
        option("--json", "as_json", is_flag=True, group=OUTPUT, help="Print one JSON object per line."),
        option("-v", "--verbose", count=True, group=OUTPUT, help="More log lines; twice: the libraries' too."),
        option("-q", "--quiet", count=True, group=OUTPUT, help="Warnings and errors only; twice: errors only."),
        option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            group=OUTPUT,
            help="Format of the log, on standard error.",
        ),
    ]
)

_TOKEN = (
    declared(
        RelayOptions,
        "token",
        type=any_text,
        metavar="TOKEN",
        group=RELAY,
        note="Visible in the process list; prefer PEER_TOKEN or --token-file.",
    ),
    option("--token-file", type=path, metavar="FILE", group=RELAY, help="File that contains the access token."),
)
token_options = together(_TOKEN)


def joining(default_id: str) -> Callable[[F], F]:
    """How to join. ``default_id`` describes the command's default id."""

    def relay(name: str, *flags: str, **attributes: Any) -> Callable[[F], F]:
        return declared(RelayOptions, name, *flags, group=RELAY, **attributes)

    return together(
        [
            relay("server", type=relay_url, metavar="URL"),
            relay("id", type=peer_id, metavar="ID", unset=default_id),
            relay("room", type=peer_id, metavar="ROOM"),
            *_TOKEN,
            relay("cacert", type=path, metavar="FILE"),
            relay("ice_servers", "--ice-server", type=any_text, multiple=True, metavar="URL", note="Repeatable."),
            relay("relay_only", is_flag=True),
        ]
    )


join_options = joining("host name and a random part, kept across restarts")


def media_options(*, video: str, audio: str) -> Callable[[F], F]:
    """What is sent. ``video`` and ``audio`` are the command's defaults."""

    def source(name: str, **attributes: Any) -> Callable[[F], F]:
        return declared(MediaOptions, name, group=SOURCES, **attributes)

    return together(
        [
            source("video", type=parsed_by("parse_video", as_text=True), default=video, metavar="SOURCE"),
            source("audio", type=parsed_by("parse_audio", as_text=True), default=audio, metavar="SOURCE"),
            source("size", type=parsed_by("parse_size"), metavar="WxH", note="Example: 1280x720."),
            source("fps", type=frame_rate, metavar="N"),
            declared(
                MediaOptions,
                "camera_controls",
                "--camera-control",
                group=SOURCES,
                type=parsed_by("parse_control", as_text=True),
                multiple=True,
                metavar="NAME=VALUE",
                note="Repeatable.",
            ),
            source("video_codec", type=video_codecs, metavar="LIST"),
            source("video_encoder", type=click.Choice(VIDEO_ENCODERS)),
            source("max_bitrate", type=parsed_by("parse_bitrate"), metavar="RATE", note="Examples: 2500k, 4M."),
        ]
    )


def sink_options(*, speaker: str) -> Callable[[F], F]:
    """Where received media is played. ``speaker`` is the command's default."""
    return together(
        [
            declared(MediaOptions, "speaker", type=any_text, default=speaker, metavar="DEVICE", group=SINKS),
            declared(
                MediaOptions, "show", "--show/--no-show", default=None, unset="on if there is a display", group=SINKS
            ),
        ]
    )


file_options = together(
    [
        option(
            "--record",
            type=path,
            metavar="PATH",
            group=SINKS,
            help="Record each call as .mkv, .webm or .mp4, to a file, a folder or a path with {peer} and {time}.",
        ),
        option(
            "--segment",
            type=segment_length,
            metavar="TIME",
            group=SINKS,
            help="Start a new file of the recording this often; without {time} in its path, the files are numbered.",
        ),
        option(
            "--snapshot",
            type=path,
            metavar="PATH",
            group=SINKS,
            help="Save the first video frame of each call, as .png or .jpg.",
        ),
    ]
)


def timeout_option(description: str) -> Callable[[F], F]:
    """``--timeout``, 15 s, whose meaning depends on the command."""
    return option("--timeout", type=duration, default="15s", show_default=True, metavar="TIME", help=description)


def duration_option(description: str) -> Callable[[F], F]:
    """``--duration``, whose meaning depends on the command."""
    return option("--duration", type=duration, metavar="TIME", help=description)
