"""Counts what arrives on a transport, and keeps from it what would break it."""

from __future__ import annotations

import logging
from typing import Any, cast

from aiortc import RTCPeerConnection
from OpenSSL import SSL

from .aiortc_hooks import ice_connection

log = logging.getLogger(__name__)


class Liveness:
    """Counts what arrives on the transport, media and ICE checks alike, and keeps from it what would break it.

    Hook: the engine notices a peer that vanished after 29 to 33 s; the counters tell within seconds.

    Hook: whatever the engine raises over a report ends the transport.
    """

    def __init__(self, connection: RTCPeerConnection) -> None:
        self._dtls = connection.getTransceivers()[0].receiver.transport
        self._checks = 0
        ice = ice_connection(connection)
        request_received = ice.request_received

        def count(*args: Any) -> None:
            self._checks += 1
            request_received(*args)

        ice.request_received = count
        data_received = ice.data_received

        def guard(data: bytes, component: int) -> None:
            if data:  # anybody may send us an empty datagram, and the engine looks at its first octet
                data_received(data, component)

        ice.data_received = guard
        dtls = cast(Any, self._dtls)
        handle_rtcp = dtls._handle_rtcp_data

        async def guard_rtcp(data: bytes) -> None:
            try:
                await handle_rtcp(data)
            except Exception as exc:  # an estimate that says it is for more streams than it names, and its like
                log.debug("< RTCP that cannot be read: %s", exc)

        dtls._handle_rtcp_data = guard_rtcp
        self.closed_by_remote = False
        """Whether DTLS ended with the other side's close_notify (RFC 8446 6.1), and by nothing else."""
        self._dtls.on("statechange", self._dtls_changed)

    @property
    def datagrams(self) -> int:
        """How many have come so far."""
        received: int = self._dtls._RTCDtlsTransport__rx_packets  # type: ignore[attr-defined]
        return received + self._checks

    def _dtls_changed(self) -> None:
        if self._dtls.state == "closed":
            tls = self._dtls._ssl
            self.closed_by_remote = tls is not None and bool(tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN)
