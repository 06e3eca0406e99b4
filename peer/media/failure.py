"""Translation of errors of FFmpeg and the kernel into ``MediaError``, with a cause and a hint."""

from __future__ import annotations

import errno
from typing import Final

import av

from peer.errors import MediaError

_CAUSES: Final = {
    errno.ENOENT: ("there is no such file or device", "check the path; `peer devices` lists cameras and microphones"),
    errno.ENODEV: ("the device is gone", "check whether it was unplugged"),
    errno.ENXIO: ("the device is gone", "check whether it was unplugged"),
    errno.EBUSY: ("another program is using it", "close that program, or name another device"),
    errno.EACCES: (
        "this user may not open it",
        "check its permissions; cameras need the group `video`, audio devices `audio`",
    ),
    errno.EPERM: ("this user may not open it", "check its permissions"),
    errno.ENOTTY: ("it is not a capture device", "`peer devices` lists cameras and microphones"),
    errno.EISDIR: ("it is a folder", "name a file in it"),
    errno.ECONNREFUSED: ("nothing listens at this address", "check host and port"),
    errno.ETIMEDOUT: ("no answer in time", "check the address and the network"),
    errno.EHOSTUNREACH: ("the host cannot be reached", "check the address and the network"),
    errno.EIO: ("the device does not support the requested settings", None),
}


class NoAudio(MediaError):
    """A file or stream has no audio although audio was requested."""


def media_error(what: str, error: Exception) -> MediaError:
    """Return ``error`` as a ``MediaError`` about ``what``, with cause and hint if its error number is known."""
    if isinstance(error, MediaError):
        return error
    if isinstance(error, av.error.ExitError):  # PyAV's time-out interrupts FFmpeg, which reports that as an exit
        return MediaError(what, *_CAUSES[errno.ETIMEDOUT])
    if isinstance(error, av.error.HTTPUnauthorizedError):
        return MediaError(what, "it requires a name and a password", "try rtsp://name:password@host/path")
    number = getattr(error, "errno", None)
    if number in _CAUSES:
        return MediaError(what, *_CAUSES[number])
    return MediaError(what, getattr(error, "strerror", None) or str(error) or type(error).__name__)
