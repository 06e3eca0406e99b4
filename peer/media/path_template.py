"""Where recordings and snapshots go: ``{peer}`` and ``{time}`` in a path that the user gave.

``{peer}`` is the remote's id, ``{time}`` local time as ``20260131-174502``. A remote chooses its own id, so an id
that would leave the folder or hide the file (a dot in front) or name a home folder (a tilde) is defused.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

from ..errors import MediaError

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def expand(pattern: str, *, peer: str, now: datetime | None) -> Path:
    """The path for ``peer`` at ``now``; ``~`` in ``pattern`` is the home folder. Without ``now``, ``{time}`` stays.

    Raises:
        MediaError: a placeholder or a home folder that does not exist.
    """
    home = os.path.expanduser(pattern)  # before the id is in it: what a remote calls itself is no folder of ours
    if home.startswith("~"):
        raise MediaError(pattern, "there is no such home folder", "write ./~… for what is really called so")
    return fill(home, peer=peer, now=now)


def fill(pattern: str, *, peer: str, now: datetime | None) -> Path:
    """As ``expand``, but ``~`` is an ordinary character.

    Raises:
        MediaError: a placeholder that does not exist.
    """
    values = {"peer": re.sub(r"^[.~]+", lambda front: "_" * len(front[0]), peer)}
    values["time"] = "{time}" if now is None else f"{now:%Y%m%d-%H%M%S}"

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise MediaError(pattern, f"{match[0]} is not known", "there are {peer} and {time}")
        return values[match[1]]

    return Path(_PLACEHOLDER.sub(value, pattern))
