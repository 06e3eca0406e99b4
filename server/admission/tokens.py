"""Token checks for joins. Pure, except for reading secrets from files.

A relay has one of three checks: no token; one token shared by all peers; or signed tokens (``jwt_tokens``, loaded
only if used, because a cryptographic library costs memory and start time).

A token is checked once, when its peer joins. If it expires while the peer is in the room, the peer stays
(docs/protocol.md, join).
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Protocol

from peer.errors import ConfigError
from peer.signaling.messages import Join, ProtocolError

from ..config import RelayConfig
from ..errors import UnprotectedRelay, token_required


class TokenCheck(Protocol):
    """The check of the token of a join."""

    def check(self, join: Join) -> None:
        """Check the token of ``join``.

        Raises:
            ProtocolError: ``unauthorized``, with a reason that does not contain the token.
        """
        ...


class NoTokenCheck:
    """A check that accepts every join."""

    def check(self, join: Join) -> None:
        pass


class SharedTokenCheck:
    """One token for all peers, compared in constant time so that response times reveal nothing about it."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def check(self, join: Join) -> None:
        if not join.token:
            raise token_required()
        # surrogatepass: JSON may contain a lone surrogate, which is as wrong as any other token
        if not compare_digest(join.token.encode(errors="surrogatepass"), self._token):
            raise ProtocolError("unauthorized", "the token is wrong")


def token_check(config: RelayConfig) -> TokenCheck:
    """Return the check that ``config`` specifies.

    Raises:
        ConfigError: a file cannot be read or contains no usable key, or more than one check is specified.
        UnprotectedRelay: the relay is behind a proxy and has no token, and ``config.open`` does not allow that.
    """
    options = {"--token": config.token, "--jwt-secret-file": config.jwt_secret_file, "--jwt-key": config.jwt_key}
    given = [name for name, value in options.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: use one of them", where=given[0])
    if config.token is not None:
        if not config.token:
            raise ConfigError("the token is empty", where="--token")
        return SharedTokenCheck(config.token)
    if not given:
        if config.trust_proxies and not config.open:  # the proxy makes the relay reachable for others
            raise UnprotectedRelay("the proxy in front", "--trust-proxy")
        return NoTokenCheck()
    from .jwt_tokens import Key, SignedTokenCheck

    if config.jwt_secret_file is not None:
        return SignedTokenCheck(Key.secret(config.jwt_secret_file))
    assert config.jwt_key is not None
    return SignedTokenCheck(Key.public(config.jwt_key))
