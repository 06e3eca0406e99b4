"""Admission of a WebSocket handshake, by the website it comes from and by the client's address behind a proxy.

The rules are in ``origins``, ``proxies`` and ``admission``. This module applies them in order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from time import monotonic

from ..admission.admission import Admission, refusal
from ..admission.origins import Origins
from ..admission.proxies import Proxies
from ..http import FOREIGN_ORIGIN, response
from ..observability.logs import RateLimitedLogger
from .connection import Client

logger = logging.getLogger("server")


class Handshake:
    """The handshake check of one relay.

    ``trust_host`` tells whether any name in ``Host`` may be taken for the relay's own; see ``origins``. It is set
    once the relay's address is known.
    """

    def __init__(self, origins: Origins, proxies: Proxies, admission: Admission, log: RateLimitedLogger) -> None:
        self.trust_host = True
        self._origins = origins
        self._proxies = proxies
        self._admission = admission
        self._log = log
        self._warned_of_proxy = False

    def check(self, client: Client, header: Callable[[str], Sequence[str]]) -> bytes | None:
        """Check the request of ``client`` to open a WebSocket.

        Args:
            header: returns all values of a header.

        Returns:
            The HTTP response that rejects the request, or ``None`` if it is admitted.
        """
        origins, hosts, trust_host = header("Origin"), header("Host"), self.trust_host
        if self._proxies.trust(client.host):
            hop = self._proxies.hop(client.host, header)
            client.set_forwarded(hop)
            now = monotonic()
            if (limit := self._admission.set_address(client.record, client.host, now)) is not None:
                self._admission.count_exceeded(limit, client.host, now)
                return refusal(limit)
            trust_host, hosts = True, hosts if hop.host is None else [hop.host]
        elif client.record.address is None and not self._warned_of_proxy and header("X-Forwarded-For"):
            self._warned_of_proxy = True
            text = "! %s sends X-Forwarded-For: if a proxy, its clients have no limits per address; see --trust-proxy"
            logger.warning(text, client.host)
        allowed = len(origins) <= 1 and self._origins.allow(
            origins[0] if origins else None,
            scheme="https" if client.secure else "http",
            host=hosts[0] if len(hosts) == 1 else None,
            trust_host=trust_host,
        )
        if not allowed:
            line = f"! rejected {client.address}: origin {origins[0][:80]!r}; to admit it, use --allow-origin"
            self._log.info("origin", monotonic(), line, "foreign", address=client.address)
        return None if allowed else response(HTTPStatus.FORBIDDEN, FOREIGN_ORIGIN)
