"""Who is behind a proxy. Pure.

``X-Forwarded-For``, ``-Proto`` and ``-Host`` are read only where the connection comes from an address that
``--trust-proxy`` names: anybody else may write there what he likes. Each proxy adds to the end of ``-For`` whom it
heard, so the list is true from its end up to the first address that is no proxy of ours; what stands before was
written by that one, and proves nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from peer.errors import ConfigError

_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+):\d{1,5}", re.ASCII)


class Hop(NamedTuple):
    """What a proxy says of a request."""

    address: str
    scheme: str
    host: str | None
    """``None``: ask the request's own ``Host``."""


class Networks:
    """Some networks: ``10.0.0.0/8``, or an address alone.

    Raises:
        ConfigError: one that is no network; ``where`` is the option.
    """

    def __init__(self, networks: Iterable[str], where: str) -> None:
        try:
            self._networks = [ip_network(network) for network in networks]
        except ValueError as exc:
            raise ConfigError(f"{exc}; write a network like 10.0.0.0/8, or an address", where=where) from None

    def has(self, address: str) -> bool:
        """Whether ``address`` is in one of them."""
        return bool(self._networks) and (found := read_address(address)) is not None and found in self

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self._networks)


class Proxies:
    """Our proxies, by their networks.

    Raises:
        ConfigError: one that is no network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = Networks(networks, "--trust-proxy")

    def trust(self, address: str) -> bool:
        """Whether who connects from ``address`` is one of them."""
        return self._networks.has(address)

    def hop(self, address: str, header: Callable[[str], Sequence[str]]) -> Hop:
        """What the proxy at ``address``, which is trusted, says; ``header`` gives all values of a name."""
        client = address
        for part in reversed(",".join(header("X-Forwarded-For")).split(",")):
            found = read_address(part.strip())
            if found is None:  # nothing, or "unknown": whoever wrote it is the last one we know
                break
            client = str(found)
            if found not in self._networks:
                break
        proto = _last(header("X-Forwarded-Proto"))
        return Hop(client, "https" if proto in ("https", "wss") else "http", _last(header("X-Forwarded-Host")))


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """The IP address in ``text``, with or without a port or a zone; one of IPv4 in IPv6 is the former."""
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _last(values: Sequence[str]) -> str | None:
    return ",".join(values).rpartition(",")[2].strip().lower() or None
