"""A headless WebRTC peer: ``from peer import Agent``.

Importing this package loads no other module. Each name is imported on first use, so that ``peer --help`` and the
relay, which imports ``peer.signaling.messages``, do not load the media libraries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .agent import Agent as Agent
    from .call import Call as Call
    from .errors import CallFailed as CallFailed
    from .errors import ConfigError as ConfigError
    from .errors import JoinRefused as JoinRefused
    from .errors import MediaError as MediaError
    from .errors import PeerError as PeerError
    from .errors import ServerError as ServerError
    from .errors import ServerUnreachable as ServerUnreachable
    from .options import MediaOptions as MediaOptions
    from .options import RelayOptions as RelayOptions

_HOMES = {
    "Agent": "agent",
    "Call": "call",
    "CallFailed": "errors",
    "ConfigError": "errors",
    "JoinRefused": "errors",
    "MediaError": "errors",
    "MediaOptions": "options",
    "PeerError": "errors",
    "RelayOptions": "options",
    "ServerError": "errors",
    "ServerUnreachable": "errors",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
