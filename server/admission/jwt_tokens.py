"""Signed tokens (JWT, RFC 7519) for certain rooms and ids, which a website can issue.

The only user of PyJWT. The algorithm is determined by the configured key and never by the token (RFC 8725, 3.1):
HS256 for a secret; RS256, ES256 or EdDSA for a key, according to its type.

Claims: ``room`` and ``id``, each a name or a pattern in which ``*`` stands for any number of characters; ``exp``, and
optionally ``nbf``, in Unix seconds. The room ``""`` is the one without a name. A token with an ``aud`` claim is
intended for another recipient and is rejected.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from peer.errors import ConfigError
from peer.signaling.messages import DEFAULT_ROOM, Join, ProtocolError

from ..errors import token_required
from .secret_files import read_secret

MIN_SECRET: Final = 32
"""Minimum size of an HS256 secret, in bytes: the size of the hash (RFC 7518, 3.2)."""
MIN_RSA_BITS: Final = 2048
"""Minimum size of an RSA key, in bits (RFC 7518, 3.3)."""
MAX_PATTERN: Final = 64
"""Maximum length of a pattern: that of a name."""
LEEWAY: Final = 30
"""Accepted difference between the clocks of issuer and relay, in seconds."""

_ALPHABET: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._~-*")


@dataclass(frozen=True, slots=True)
class Key:
    """A key and its algorithm."""

    algorithm: str
    material: Any = field(repr=False)

    @classmethod
    def secret(cls, path: str) -> Key:
        """Read the shared secret in the file ``path``, for HS256.

        Raises:
            ConfigError: it cannot be used.
        """
        where = "--jwt-secret-file"
        secret = read_secret(path, where)
        if secret.startswith(b"-----BEGIN"):
            raise ConfigError(f"{path}: this is a key, not a secret; use --jwt-key", where=where)
        if len(secret) < MIN_SECRET:
            hint = f"a secret needs at least {MIN_SECRET} bytes; create one with: openssl rand -hex 32"
            raise ConfigError(f"{path}: {hint}", where=where)
        return cls("HS256", secret)

    @classmethod
    def public(cls, path: str) -> Key:
        """Read the public key in the PEM file ``path``, to verify tokens. A private key is rejected.

        Raises:
            ConfigError: it cannot be used.
        """
        content = read_secret(path, "--jwt-key")
        if b"PRIVATE KEY-----" in content:
            hint = f"extract the public key: openssl pkey -in {path} -pubout"
            raise ConfigError(
                f"{path}: this is a private key, which a relay must not have; {hint}", where="--jwt-key"
            )
        try:
            key = load_pem_public_key(content)
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigError(f"{path}: not a public key in PEM format", where="--jwt-key") from None
        return cls(_algorithm(key, path), key)

    @classmethod
    def private(cls, path: str) -> Key:
        """Read the private key in the PEM file ``path``, to sign tokens.

        Raises:
            ConfigError: it cannot be used.
        """
        try:
            key = load_pem_private_key(read_secret(path, "--jwt-key"), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it has a password
            raise ConfigError(f"{path}: not a PEM private key without a password", where="--jwt-key") from None
        return cls(_algorithm(key.public_key(), path), key)


def _algorithm(key: object, path: str) -> str:
    match key:
        case ec.EllipticCurvePublicKey() if isinstance(key.curve, ec.SECP256R1):
            return "ES256"
        case ed25519.Ed25519PublicKey():
            return "EdDSA"
        case rsa.RSAPublicKey() if key.key_size >= MIN_RSA_BITS:
            return "RS256"
    raise ConfigError(f"{path}: use P-256, Ed25519, or RSA of at least {MIN_RSA_BITS} bits", where="--jwt-key")


class SignedTokenCheck:
    """A check that accepts joins with a token signed by ``key`` for the room and id of the join."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def check(self, join: Join) -> None:
        if not join.token:
            raise token_required()
        try:
            claims = jwt.decode(
                join.token,
                self._key.material,
                algorithms=[self._key.algorithm],
                options={"require": ["exp", "room", "id"]},
                leeway=LEEWAY,
            )
        except jwt.ExpiredSignatureError:
            raise ProtocolError("unauthorized", "the token has expired") from None
        except jwt.ImmatureSignatureError:
            raise ProtocolError("unauthorized", "the token is not valid yet") from None
        except jwt.MissingRequiredClaimError as exc:
            raise ProtocolError("unauthorized", f"the token has no claim {exc.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):  # the token may be anything
            raise ProtocolError("unauthorized", "the token was not issued for this relay") from None
        if not matches(claims["room"], join.room or DEFAULT_ROOM):
            raise ProtocolError("unauthorized", "the token is for another room")
        if not matches(claims["id"], join.peer_id):
            raise ProtocolError("unauthorized", "the token is for another id")


def sign(key: Key, *, room: str, id: str, lifetime: float, now: float | None = None) -> str:
    """Return a token for ``room`` and ``id``, names or patterns, that is valid for ``lifetime`` seconds from ``now``.

    Raises:
        ConfigError: no peer can have such a room or id.
    """
    for where, pattern in (("--room", room), ("--id", id)):
        if not is_pattern(pattern) or (where == "--id" and not pattern):
            raise ConfigError(f"{pattern[:80]!r}: use 1 to {MAX_PATTERN} of A-Z a-z 0-9 . _ ~ - and *", where=where)
    issued = int(time.time() if now is None else now)
    claims = {"room": room, "id": id, "iat": issued, "exp": issued + max(1, int(lifetime))}
    return jwt.encode(claims, key.material, algorithm=key.algorithm)


def is_pattern(text: str) -> bool:
    """Whether ``text`` has only characters of names and ``*``, and is not too long."""
    return len(text) <= MAX_PATTERN and _ALPHABET.issuperset(text)


def matches(pattern: object, name: str) -> bool:
    """Whether ``name`` matches ``pattern``; ``*`` matches any number of characters. Takes linear time."""
    if not isinstance(pattern, str) or not is_pattern(pattern):
        return False
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    *middle, last = rest
    if len(name) < len(first) + len(last) or not name.startswith(first) or not name.endswith(last):
        return False
    at, end = len(first), len(name) - len(last)
    for part in middle:
        found = name.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
