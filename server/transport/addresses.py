"""Addresses of this machine, from the kernel's tables: no library, no traffic, and nothing but sockets and /proc."""

from __future__ import annotations

import array
import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_SIOCGIFCONF: Final = 0x8912
"""netdevice(7): all interfaces with an IPv4 address."""
_IFREQ: Final = 16 + (24 if struct.calcsize("P") == 8 else 16)
"""Size of ``struct ifreq`` in bytes: a name and a union, whose largest member has a pointer-sized part."""
_MAX_ADDRESSES: Final = 256

_INET6: Final = Path("/proc/net/if_inet6")
_UNSTABLE: Final = 0x01 | 0x08 | 0x20 | 0x40
"""Flags of temporary, duplicate, deprecated and tentative addresses (linux/if_addr.h): gone soon, or not usable."""


def reachable(host: str) -> list[str]:
    """Addresses by which clients reach a listener that is bound to ``host``.

    For ``0.0.0.0``, ``::`` or ``""``: all addresses of this machine of that family, except loopback and link-local
    ones; loopback if there are no others. For any other host: itself.
    """
    families = _families(host)
    if not families:
        return [host]
    found = [*(_ipv4() if 4 in families else ()), *(_ipv6() if 6 in families else ())]
    usable = [address for address in found if not (address.is_loopback or address.is_link_local)]
    return list(dict.fromkeys(map(str, usable))) or ["127.0.0.1" if 4 in families else "::1"]


def _families(host: str) -> tuple[int, ...]:
    """IP versions of all addresses that ``host`` stands for; none if it is one address or a name."""
    if not host:
        return 4, 6
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return ()
    return (address.version,) if address.is_unspecified else ()


def _ipv4() -> Iterator[ipaddress.IPv4Address]:
    buffer = array.array("B", bytes(_IFREQ * _MAX_ADDRESSES))
    address, size = buffer.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        try:
            answer = fcntl.ioctl(control, _SIOCGIFCONF, struct.pack("iP", size, address))
        except OSError:  # not Linux
            return
    (filled, _) = struct.unpack("iP", answer)
    for start in range(0, filled, _IFREQ):
        yield ipaddress.IPv4Address(buffer[start + 20 : start + 24].tobytes())  # behind name, family and port


def _ipv6() -> Iterator[ipaddress.IPv6Address]:
    try:
        lines = _INET6.read_text().splitlines()
    except OSError:  # not Linux, or IPv6 is switched off
        return
    for line in lines:
        address, _index, _prefix, scope, flags, _name = line.split()
        if scope == "00" and not int(flags, 16) & _UNSTABLE:
            yield ipaddress.IPv6Address(bytes.fromhex(address))
