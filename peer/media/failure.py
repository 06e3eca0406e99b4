"""A library's error as a sentence for people: translated once, at the border to FFmpeg and the kernel."""

from __future__ import annotations

import errno
from typing import Final

import av

from peer.errors import MediaError

_CAUSES: Final = {
    errno.ENOENT: ("there is no such file or device", "check the path; `peer devices` lists cameras and microphones"),
    errno.ENODEV: ("the device is gone", "was it unplugged?"),
    errno.ENXIO: ("the device is gone", "was it unplugged?"),
    errno.EBUSY: ("another program is using it", "close that program, or name another device"),
    errno.EACCES: (
        "this user may not open it",
        "check its permissions; cameras want the group `video`, sound `audio`",
    ),
    errno.EPERM: ("this user may not open it", "check its permissions"),
    errno.ENOTTY: ("it is not a capture device", "`peer devices` lists cameras and microphones"),
    errno.EISDIR: ("it is a folder", "name a file in it"),
    errno.ECONNREFUSED: ("nothing listens at that address", "check host and port"),
    errno.ETIMEDOUT: ("no answer in time", "check the address and the network"),
    errno.EHOSTUNREACH: ("the host cannot be reached", "check the address and the network"),
    errno.EIO: ("the device does not work the way it was asked to", None),
}


class NoSound(MediaError):
    """A file or stream without any sound in it, of which sound was wanted."""


def explain(what: str, problem: Exception) -> MediaError:
    """``problem`` as a MediaError about ``what``, with a cause and a hint where its number is known."""
    if isinstance(problem, MediaError):
        return problem
    if isinstance(problem, av.error.ExitError):  # PyAV's time-out interrupts FFmpeg, which calls it an exit
        return MediaError(what, *_CAUSES[errno.ETIMEDOUT])
    if isinstance(problem, av.error.HTTPUnauthorizedError):
        return MediaError(what, "it wants a name and a password", "try rtsp://name:password@host/path")
    number = getattr(problem, "errno", None)
    if number in _CAUSES:
        return MediaError(what, *_CAUSES[number])
    return MediaError(what, getattr(problem, "strerror", None) or str(problem) or type(problem).__name__)
