"""Resolution of host names without the default executor.

A lookup can hang for minutes. In the default executor it would block encoders and the end of the process.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import Iterable
from itertools import chain, zip_longest
from typing import Final

MAX_ADDRESSES: Final = 6
"""Maximum number of addresses per name. The last one is tried after 2.5 s, within the time to wait for a server."""


async def resolve(host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[str]:
    """Return the addresses of ``host`` in the order in which to try them, at most ``MAX_ADDRESSES``.

    The order is the system's (RFC 6724), with the address families alternating (RFC 8305, section 4). An IP address
    is returned as it is. The lookup runs in a daemon thread of its own.

    Raises:
        OSError: there is no address, or ``host`` is not a host name.
    """
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    result: asyncio.Future[list[str]] = loop.create_future()

    def set_result(addresses: list[str], error: OSError | None) -> None:
        if result.done():
            return  # cancelled
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(addresses)

    def look_up() -> None:
        addresses: list[str] = []
        error = None
        try:
            found = socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)
            addresses = alternate_families(str(address[0]) for *_, address in found)[:MAX_ADDRESSES]
        except (OSError, UnicodeError) as exc:  # UnicodeError: not a host name
            error = OSError(str(exc))
        try:
            loop.call_soon_threadsafe(set_result, addresses, error)
        except RuntimeError:
            pass  # the event loop is closed

    threading.Thread(target=look_up, name=f"resolve-{host}", daemon=True).start()
    return await result


def alternate_families(addresses: Iterable[str]) -> list[str]:
    """Return ``addresses`` without duplicates, IPv4 and IPv6 in turn, beginning with the first one's family."""
    known = list(dict.fromkeys(addresses))
    first = [address for address in known if (":" in address) == (":" in known[0])]
    other = [address for address in known if address not in first]
    return [address for address in chain.from_iterable(zip_longest(first, other)) if address is not None]
