"""Who we are across restarts: a default id, and the secret that takes our seat back (protocol.md, server rule 3).

A state file in ``$XDG_STATE_HOME/peer`` holds an id and a secret, mode 0600. A running process keeps its file locked,
so a second one on the same machine finds the next file, or, when both were told to use one id, goes without: two
processes that share a key would take each other's seat for ever. The lock goes away with the process, however it
ends.

The secret itself stays on this machine. Each relay gets a key derived from it, so what one relay has seen opens no
seat at another.

Must never: fail. Without a place to write there is a fresh identity and one log line.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import logging
import os
import re
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final

from .messages import is_valid_id

_log = logging.getLogger(__name__)

_SEATS: Final = 64  # processes of one user on one machine that keep a default id; further ones get a fresh one
_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"  # what is read aloud without mistakes: no l, o, 0, 1


@dataclass(frozen=True)
class Identity:
    """An id and the secret behind its keys. Holds its state file's lock until it is closed."""

    id: str
    _secret: bytes = field(repr=False)
    _lock: int | None = field(default=None, repr=False)

    def key_for(self, server: str) -> str:
        """The ``key`` of a join at the relay ``server`` (its URL): 32 hex digits."""
        return hmac.new(self._secret, server.encode(), hashlib.sha256).hexdigest()[:32]

    def close(self) -> None:
        """Free the id and the secret for the next process. The operating system does it too when we are killed."""
        if self._lock is not None:
            os.close(self._lock)
            object.__setattr__(self, "_lock", None)

    def __enter__(self) -> Identity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(wanted: str | None = None, *, state: Path | None = None) -> Identity:
    """The identity of this process: ``wanted`` as the id, or a default that stays the same across restarts.

    ``state`` is the folder of the state files, by default ``$XDG_STATE_HOME/peer``.
    """
    folder = state if state is not None else _state_folder()
    names = [f"id-{wanted}.json"] if wanted else [f"seat-{number}.json" for number in range(_SEATS)]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            found = _open(folder / name, wanted)
            if found is not None:
                return found
        _log.info("%s is in use by another process here: no seat to take back after a restart", wanted or "every id")
    except (OSError, RuntimeError) as exc:  # RuntimeError: no home folder
        _log.warning("no state in %s (%s): this id and key last until the process ends", folder, exc)
    return _fresh(wanted)


def default_id() -> str:
    """A new default id: this host's name, reduced to the alphabet of ids, and a short random part."""
    host = re.sub(r"[^A-Za-z0-9._~-]+", "-", socket.gethostname().partition(".")[0]).strip("-.")
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(4))
    return f"{host[:48] or 'peer'}-{tail}"


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # XDG Base Directory Specification: relative paths are invalid and ignored
        return Path(base) / "peer"
    return Path(os.path.expanduser("~")) / ".local" / "state" / "peer"


def _open(path: Path, wanted: str | None) -> Identity | None:
    """The identity in ``path``, made when there is none; ``None`` while another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        kept = _read(descriptor)
        if kept is None or (wanted is not None and kept[0] != wanted):
            fresh = _fresh(wanted)
            kept = (fresh.id, fresh._secret)
            _write(descriptor, *kept)
        return Identity(*kept, descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise


def _read(descriptor: int) -> tuple[str, bytes] | None:
    try:
        body = json.loads(os.read(descriptor, 4096))
        kept_id, secret = body["id"], bytes.fromhex(body["secret"])
    except (ValueError, KeyError, TypeError):  # new, or cut short by a power cut
        return None
    return (kept_id, secret) if is_valid_id(kept_id) and len(secret) >= 16 else None


def _write(descriptor: int, kept_id: str, secret: bytes) -> None:
    os.fchmod(descriptor, 0o600)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"id": kept_id, "secret": secret.hex()}).encode() + b"\n", 0)
    os.fsync(descriptor)


def _fresh(wanted: str | None) -> Identity:
    return Identity(wanted or default_id(), secrets.token_bytes(16))
