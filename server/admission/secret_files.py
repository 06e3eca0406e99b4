"""Tokens, secrets and keys that are read from files."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from peer.errors import ConfigError

MAX_SECRET: Final = 16 * 1024
"""Maximum size of a token, secret or key file, in bytes. An RSA key of 4096 bits takes 3 kB."""


def read_secret(path: str, where: str) -> bytes:
    """Read the secret in the file ``path``, without surrounding whitespace.

    Raises:
        ConfigError: the file cannot be read, is empty or is far too long. It names ``where``, the option.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_SECRET + 1)
    except (OSError, ValueError) as exc:  # ValueError: a path with a null character
        raise ConfigError(f"{path}: {getattr(exc, 'strerror', None) or exc}", where=where) from None
    if len(content) > MAX_SECRET:
        raise ConfigError(f"{path}: more than {MAX_SECRET} bytes; is this the right file?", where=where)
    if not content.strip():
        raise ConfigError(f"{path}: the file is empty", where=where)
    return content.strip()
