"""Whether an HTTP request may become a WebSocket: by the website it comes from, and by the address behind a proxy.

The rules are elsewhere (``origins``, ``proxies``, ``guard``); here is the order in which they are asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from time import monotonic

from ..admission.admission import Guard, refusal
from ..admission.origins import Origins
from ..admission.proxies import Proxies
from ..http import FOREIGN, response
from ..observability.logs import Seldom
from .connection import Client

logger = logging.getLogger("server")


class Door:
    """Of one relay. ``any_host``, set when it is known where that listens: whether any name in ``Host`` may be taken
    for ours. Not where only this machine comes and nobody needs a token: a website could name itself so."""

    def __init__(self, origins: Origins, proxies: Proxies, guard: Guard, seldom: Seldom) -> None:
        self.any_host = True
        self._origins = origins
        self._proxies = proxies
        self._guard = guard
        self._seldom = seldom
        self._told_of_proxy = False

    def welcomes(self, client: Client, header: Callable[[str], Sequence[str]]) -> bytes | None:
        """Why the website or the address that the request tells of may not connect; None: it may. ``header`` gives
        all values of a name."""
        asked, hosts, any_host = header("Origin"), header("Host"), self.any_host
        if self._proxies.trust(client.host):
            hop = self._proxies.hop(client.host, header)
            client.came_by(hop)
            now = monotonic()
            if (limit := self._guard.locate(client.visit, client.host, now)) is not None:
                self._guard.exceeded(limit, client.host, now)
                return refusal(limit)
            any_host, hosts = True, hosts if hop.host is None else [hop.host]
        elif client.visit.address is None and not self._told_of_proxy and header("X-Forwarded-For"):
            self._told_of_proxy = True
            logger.warning("! is %s a proxy? then all behind it are one; see --trust-proxy", client.host)
        welcome = len(asked) <= 1 and self._origins.allow(
            asked[0] if asked else None,
            scheme="https" if client.secure else "http",
            host=hosts[0] if len(hosts) == 1 else None,
            any_host=any_host,
        )
        if not welcome:
            line = f"! {client.address} comes from {asked[0][:80]!r}; --allow-origin would let it in"
            self._seldom.info("origin", monotonic(), line, "foreign", address=client.address)
        return None if welcome else response(HTTPStatus.FORBIDDEN, FOREIGN)
