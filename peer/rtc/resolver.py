"""Resolution of host names without the default executor.

A lookup can hang for minutes. In the default executor it would block encoders and the end of the process.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading


async def resolve(host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC) -> str:
    """Return the first address of ``host``. An IP address is returned as it is.

    The lookup runs in a daemon thread of its own.

    Raises:
        OSError: there is no address, or ``host`` is not a host name.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    result: asyncio.Future[str] = loop.create_future()

    def set_result(address: str, error: OSError | None) -> None:
        if result.done():
            return  # cancelled
        if error is not None:
            result.set_exception(error)
        else:
            result.set_result(address)

    def look_up() -> None:
        address, error = "", None
        try:
            address = str(socket.getaddrinfo(host, port, family, socket.SOCK_DGRAM)[0][4][0])
        except (OSError, UnicodeError) as exc:  # UnicodeError: not a host name
            error = OSError(str(exc))
        try:
            loop.call_soon_threadsafe(set_result, address, error)
        except RuntimeError:
            pass  # the event loop is closed

    threading.Thread(target=look_up, name=f"resolve-{host}", daemon=True).start()
    return await result
