"""Identity across restarts: a default id, and the secret by which a peer reclaims its seat.

A state file in ``$XDG_STATE_HOME/peer`` holds an id and a secret, with mode 0600. A running process locks its file. A
second process on the same machine uses the next file. If both were given the same id, the second one uses a temporary
secret: two processes with the same key would take over each other's seat forever (docs/protocol.md, server rule 3).
The operating system releases the lock when the process ends.

The secret stays on this machine. Each relay receives a key derived from it, so a relay that knows its key cannot
take a seat at another relay.

Never raises: without a writable folder, ``load`` logs a warning and returns a temporary identity.
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

_MAX_STATE_FILES: Final = 64
"""Maximum number of processes of one user on one machine with a permanent default id. Others get a temporary one."""

_ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""Characters of the random part of an id. Without l, o, 0 and 1, which are misread."""


@dataclass(frozen=True)
class Identity:
    """An id and its secret. Holds the lock on its state file until it is closed."""

    id: str
    _secret: bytes = field(repr=False)
    _lock: int | None = field(default=None, repr=False)

    def key_for(self, server: str) -> str:
        """Return the ``key`` for a join at the relay with the URL ``server``: 32 hex digits."""
        return hmac.new(self._secret, server.encode(), hashlib.sha256).hexdigest()[:32]

    def close(self) -> None:
        """Release the lock, so that another process can use this identity."""
        if self._lock is not None:
            os.close(self._lock)
            object.__setattr__(self, "_lock", None)

    def __enter__(self) -> Identity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(id: str | None = None, *, state: Path | None = None) -> Identity:
    """Return the identity of this process.

    Args:
        id: the id to use; ``None``: a default id that stays the same across restarts.
        state: folder of the state files; ``None``: ``$XDG_STATE_HOME/peer``.
    """
    folder = state if state is not None else _state_folder()
    names = [f"id-{id}.json"] if id else [f"seat-{number}.json" for number in range(_MAX_STATE_FILES)]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in names:
            found = _open(folder / name, id)
            if found is not None:
                return found
        if id:
            _log.info(
                "another process uses the id %s: after a crash, this one may have to wait before it can rejoin", id
            )
        else:
            _log.info("other processes use all default ids: after a restart, this one will have another id")
    except (OSError, RuntimeError) as exc:  # RuntimeError: no home folder
        _log.warning("cannot use state folder %s: %s; id and key are lost when this process ends", folder, exc)
    return _create(id)


def default_id() -> str:
    """Return a new default id: this host's name, reduced to the characters of an id, and a short random part."""
    host = re.sub(r"[^A-Za-z0-9._~-]+", "-", socket.gethostname().partition(".")[0]).strip("-.")
    tail = "".join(secrets.choice(_ALPHABET) for _ in range(4))
    return f"{host[:48] or 'peer'}-{tail}"


def new_instance() -> str:
    """Return a new ``instance`` for the joins of one agent: 16 characters, 96 random bits.

    It must not outlive the agent. A new one reports that the earlier agent is gone, and its calls with it
    (docs/protocol.md, server rule 3).
    """
    return secrets.token_urlsafe(12)


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(base):  # XDG Base Directory Specification: relative paths are invalid and ignored
        return Path(base) / "peer"
    return Path(os.path.expanduser("~")) / ".local" / "state" / "peer"


def _open(path: Path, id: str | None) -> Identity | None:
    """Return the identity in ``path``, created if missing. ``None``: another process has locked it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stored = _read(descriptor)
        if stored is None or (id is not None and stored[0] != id):
            created = _create(id)
            stored = (created.id, created._secret)
            _write(descriptor, *stored)
        return Identity(*stored, descriptor)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise


def _read(descriptor: int) -> tuple[str, bytes] | None:
    try:
        body = json.loads(os.read(descriptor, 4096))
        id, secret = body["id"], bytes.fromhex(body["secret"])
    except (ValueError, KeyError, TypeError):  # a new file, or one truncated by a power failure
        return None
    return (id, secret) if is_valid_id(id) and len(secret) >= 16 else None


def _write(descriptor: int, id: str, secret: bytes) -> None:
    os.fchmod(descriptor, 0o600)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps({"id": id, "secret": secret.hex()}).encode() + b"\n", 0)
    os.fsync(descriptor)


def _create(id: str | None) -> Identity:
    return Identity(id or default_id(), secrets.token_bytes(16))
