"""Paths of recordings and snapshots with the placeholders ``{peer}`` and ``{time}``.

``{peer}`` is the remote's id, ``{time}`` the local time as ``20260131-174502``. A remote chooses its own id. Leading
dots and tildes in it become underscores, so it cannot leave the folder, hide the file or name a home folder.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from ..errors import MediaError

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def expand(template: str, *, peer: str, now: datetime | None) -> Path:
    """Return the path for ``peer`` at ``now``. ``~`` is the home folder. Without ``now``, ``{time}`` stays as it is.

    Raises:
        MediaError: the template has an unknown placeholder, or names a home folder that does not exist.
    """
    path = os.path.expanduser(template)  # before the id is filled in: a remote's id never names a home folder
    if path.startswith("~"):
        raise MediaError(template, "there is no such home folder", "for a folder of that name, write ./~…")
    return fill(path, peer=peer, now=now)


def fill(template: str, *, peer: str, now: datetime | None) -> Path:
    """Return what ``expand`` does, with ``~`` as an ordinary character.

    Raises:
        MediaError: the template has an unknown placeholder.
    """
    values = {"peer": re.sub(r"^[.~]+", lambda front: "_" * len(front[0]), peer)}
    values["time"] = "{time}" if now is None else f"{now:%Y%m%d-%H%M%S}"

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise MediaError(template, f"{match[0]} is not known", "use {peer} and {time}")
        return values[match[1]]

    return Path(_PLACEHOLDER.sub(value, template))
