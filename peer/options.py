"""Options of a peer, each declared once: name, type, default and description. Pure.

``Agent`` takes them as keyword arguments or as the two objects. The command line (``peer.cli.options``) makes a flag,
an environment variable and a key of the configuration file of each, with the description as its help text. Commands
set defaults of their own for what is sent and played.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import update_wrapper
from typing import Concatenate, Final, Literal, ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
Options = TypeVar("Options")

VIDEO_CODECS: Final = ("vp8", "h264")
VIDEO_ENCODERS: Final = ("auto", "software")


def _about(description: str, *, unset: str | None = None) -> dict[str, str | None]:
    """Metadata of a field; ``unset`` describes what ``None`` or an empty value stands for."""
    return {"description": description, "unset": unset}


@dataclass(frozen=True)
class RelayOptions:
    """How a peer joins a room, and the servers through which its calls may connect."""

    id: str | None = field(
        default=None,
        metadata=_about("Id in the room: 1 to 64 of A-Z a-z 0-9 . _ ~ -", unset="host name and a short random part"),
    )
    _: KW_ONLY
    server: str = field(default="ws://127.0.0.1:8080/ws", metadata=_about("The relay, ws:// or wss://."))
    room: str | None = field(
        default=None,
        metadata=_about("Room to join. Peers only see others in the same room.", unset="the room without a name"),
    )
    token: str | None = field(default=None, repr=False, metadata=_about("Access token for the relay."))
    key: str | None = field(default=None, repr=False, metadata=_about("Secret that reclaims the seat after a crash."))
    cacert: str | None = field(
        default=None,
        metadata=_about(
            "CA certificates in PEM format that a wss:// relay's certificate must come from.", unset="the system's"
        ),
    )
    ice_servers: Sequence[str] = field(
        default=(),
        repr=False,  # a URL may hold a password
        metadata=_about(
            "Additional STUN or TURN server: turn:user:pass@host:port?transport=tcp.", unset="those of the relay"
        ),
    )
    relay_only: bool = field(default=False, metadata=_about("Send media through a TURN server only."))
    join_timeout: float | None = field(
        default=None,
        metadata=_about(
            "Time limit for joining, in seconds. An error that no retry can fix, such as a bad certificate, ends it.",
            unset="retry forever",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class MediaOptions:
    """What a peer sends, and where it plays what it receives."""

    video: str = field(
        default="none",
        metadata=_about("Video source: auto, none, test, screen, a device, a file, rtsp://… or exec:COMMAND."),
    )
    audio: str = field(
        default="none",
        metadata=_about(
            "Audio source: auto, none, test, same (that of the video), a device, a file, rtsp://… or exec:COMMAND."
        ),
    )
    size: tuple[int, int] | None = field(
        default=None,
        metadata=_about("Maximum width and height of the video, in pixels.", unset="as the source delivers"),
    )
    fps: float | None = field(
        default=None, metadata=_about("Maximum video frames per second, 1 to 240.", unset="as the source delivers")
    )
    camera_controls: Sequence[str] = field(
        default=(),
        metadata=_about("Control of the camera, such as brightness=10; `peer devices --controls` lists them."),
    )
    video_codec: Sequence[str] | None = field(
        default=None,
        metadata=_about(
            "Video codecs in order of preference.", unset="vp8,h264; h264,vp8 if the source delivers H.264"
        ),
    )
    video_encoder: Literal["auto", "software"] = field(
        default="auto", metadata=_about("auto uses a hardware H.264 encoder if one works; software never does.")
    )
    max_bitrate: int | None = field(
        default=None, metadata=_about("Maximum video bitrate in bits per second.", unset="depends on the size")
    )
    speaker: str = field(default="none", metadata=_about("Audio output: auto, none or an ALSA device."))
    show: bool = field(default=False, metadata=_about("Windows: a local preview and one window per remote."))


@dataclass(frozen=True, kw_only=True)
class AgentOptions(MediaOptions, RelayOptions):
    """The arguments of ``Agent``: all of these options, and what only a program can set."""

    accept: Callable[[str], bool] | None = field(
        default=None,
        metadata=_about("accept(peer) returns whether to answer a call.", unset="every call is answered"),
    )
    unattended: bool = field(
        default=False,
        metadata=_about("Join although a device or stream does not work, and use it once it does."),
    )


def taking(
    options: Callable[P, Options],
) -> Callable[[Callable[[S, Options], None]], Callable[Concatenate[S, P], None]]:
    """Let the callers of an ``__init__(self, options)`` pass the fields of ``options`` as its arguments."""

    def decorate(init: Callable[[S, Options], None]) -> Callable[Concatenate[S, P], None]:
        def from_fields(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
            init(self, options(*args, **kwargs))

        own, _ = inspect.signature(init).parameters.values()
        arguments = inspect.signature(options).parameters.values()
        update_wrapper(from_fields, init)
        from_fields.__dict__["__signature__"] = inspect.Signature([own, *arguments])
        return from_fields

    return decorate
