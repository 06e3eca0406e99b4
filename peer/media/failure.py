"""Translation of errors of FFmpeg and the kernel into ``MediaError``, with a cause and a hint."""

from __future__ import annotations

import errno
from typing import Final

import av

from peer.errors import Cause, MediaError

_LIST: Final = "`peer devices` lists cameras and microphones"
_NETWORK: Final = "check the address and the network"
_UNPLUGGED: Final = "check whether it was unplugged"

_CAUSES: Final[dict[int, tuple[Cause, str, str | None]]] = {
    errno.ENOENT: ("missing", "there is no such file or device", f"check the path; {_LIST}"),
    errno.ENODEV: ("gone", "the device is gone", _UNPLUGGED),
    errno.ENXIO: ("gone", "the device is gone", _UNPLUGGED),
    errno.EBUSY: ("busy", "another program is using it", "close that program, or name another device"),
    errno.EACCES: (
        "forbidden",
        "this user may not open it",
        "check its permissions; cameras need the group `video`, audio devices `audio`",
    ),
    errno.EPERM: ("forbidden", "this user may not open it", "check its permissions"),
    errno.ENOTTY: ("failed", "it is not a capture device", _LIST),
    errno.EISDIR: ("failed", "it is a folder", "name a file in it"),
    errno.ECONNREFUSED: ("unreachable", "nothing listens at this address", "check host and port"),
    errno.ETIMEDOUT: ("unreachable", "no answer in time", _NETWORK),
    errno.EHOSTUNREACH: ("unreachable", "the host cannot be reached", _NETWORK),
    errno.EIO: ("failed", "the device does not support the requested settings", None),
}


class NoAudio(MediaError):
    """A file or stream has no audio although audio was requested."""


def media_error(what: str, error: Exception) -> MediaError:
    """Return ``error`` as a ``MediaError`` about ``what``, with cause and hint if its error number is known."""
    if isinstance(error, MediaError):
        return error
    if isinstance(error, av.error.ExitError):  # PyAV's time-out interrupts FFmpeg, which reports that as an exit
        return _from_number(what, errno.ETIMEDOUT)
    if isinstance(error, av.error.HTTPUnauthorizedError):
        return MediaError(
            what,
            "it requires a name and a password",
            "try rtsp://name:password@host/path",
            cause="unauthorized",
        )
    number = getattr(error, "errno", None)
    if number in _CAUSES:
        return _from_number(what, number)
    return MediaError(what, getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _from_number(what: str, number: int) -> MediaError:
    cause, why, hint = _CAUSES[number]
    return MediaError(what, why, hint, cause=cause)
