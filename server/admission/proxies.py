"""Addresses of clients behind a trusted proxy. Pure.

``X-Forwarded-For``, ``-Proto`` and ``-Host`` are read only on connections from addresses that ``--trust-proxy``
names, because any other client can forge them. Each proxy appends its client's address to ``-For``. The list is
therefore reliable from its end up to the first address that is not a trusted proxy. That client may have forged the
rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, NamedTuple

from peer.errors import ConfigError

_WITH_PORT: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+):\d{1,5}", re.ASCII)


class Hop(NamedTuple):
    """What a proxy reports about a request."""

    address: str
    scheme: str
    host: str | None
    """``None``: the request's own ``Host`` counts."""


class Networks:
    """A set of networks, such as ``10.0.0.0/8``, and single addresses.

    Raises:
        ConfigError: one of them is not a network. It names ``where``, the option.
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
    """The trusted proxies.

    Raises:
        ConfigError: one of ``networks`` is not a network.
    """

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = Networks(networks, "--trust-proxy")

    def trust(self, address: str) -> bool:
        """Whether ``address`` is that of a trusted proxy."""
        return self._networks.has(address)

    def hop(self, address: str, header: Callable[[str], Sequence[str]]) -> Hop:
        """Read what the trusted proxy at ``address`` reports. ``header`` returns all values of a header."""
        client = address
        for part in reversed(",".join(header("X-Forwarded-For")).split(",")):
            found = read_address(part.strip())
            if found is None:  # empty or "unknown": the proxy that wrote it is the last known address
                break
            client = str(found)
            if found not in self._networks:
                break
        proto = _last(header("X-Forwarded-Proto"))
        return Hop(client, "https" if proto in ("https", "wss") else "http", _last(header("X-Forwarded-Host")))


def read_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address in ``text``, which may have a port or a zone. An IPv4-mapped one becomes IPv4."""
    if match := _WITH_PORT.fullmatch(text):
        text = match[1] or match[2]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _last(values: Sequence[str]) -> str | None:
    return ",".join(values).rpartition(",")[2].strip().lower() or None
