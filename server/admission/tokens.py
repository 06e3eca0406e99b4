"""Who gets in: what a ``join`` is asked for before it may take a seat. Pure, but for reading secrets from files.

Three ways, of which a relay has one: nothing is asked; one token that all share; tokens that somebody signed
(``signed``, loaded only where it is used, because a cryptographic library costs memory and time to start).

A token is looked at once, when its peer joins: one that expires while its peer is in the room ends nothing, as a
ticket lets in and does not throw out (docs/protocol.md, join).
"""

from __future__ import annotations

from hmac import compare_digest
from typing import Protocol

from peer.errors import ConfigError
from peer.signaling.messages import Join, ProtocolError

from ..config import RelayConfig
from ..errors import NotOpen, token_required


class Gate(Protocol):
    """Decides about a join."""

    def check(self, join: Join) -> None:
        """Let ``join`` pass.

        Raises:
            ProtocolError: ``unauthorized``, and why, for people; never with the token in it.
        """
        ...


class OpenGate:
    """Lets in whoever comes."""

    def check(self, join: Join) -> None:
        pass


class SharedToken:
    """One token for everybody, compared in constant time: how long an answer takes says nothing about the token."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def check(self, join: Join) -> None:
        if not join.token:
            raise token_required()
        # surrogatepass: JSON may bring half a character, which is as wrong as any other token
        if not compare_digest(join.token.encode(errors="surrogatepass"), self._token):
            raise ProtocolError("unauthorized", "the token is wrong")


def gate_of(config: RelayConfig) -> Gate:
    """The gate that ``config`` asks for.

    Raises:
        ConfigError: a file cannot be read, or holds no usable key; or there is more than one way in.
        NotOpen: there is none, behind a proxy, and ``config.open`` does not say so.
    """
    ways = {"--token": config.token, "--jwt-secret-file": config.jwt_secret_file, "--jwt-key": config.jwt_key}
    given = [name for name, value in ways.items() if value is not None]
    if len(given) > 1:
        raise ConfigError(f"{' and '.join(given)}: use one of them", where=given[0])
    if config.token is not None:
        if not config.token:
            raise ConfigError("the token is empty", where="--token")
        return SharedToken(config.token)
    if not given:
        if config.trust_proxies and not config.open:  # others come by way of it, wherever the relay listens
            raise NotOpen("the proxy in front", "--trust-proxy")
        return OpenGate()
    from .jwt_tokens import Key, SignedTokens

    if config.jwt_secret_file is not None:
        return SignedTokens(Key.secret(config.jwt_secret_file))
    assert config.jwt_key is not None
    return SignedTokens(Key.public(config.jwt_key))
