"""Count of the datagrams that a transport receives, its silence, and the reason why it closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Final

from aiortc import RTCPeerConnection
from OpenSSL import SSL

from .ice_transport import IceTransport
from .silence import Change, SilenceDetector

INTERVAL: Final = 0.5
"""Interval between two checks for received datagrams, in seconds. A fifth of the shortest time-out."""


class Liveness:
    """A count of received datagrams: media, RTCP, DTLS and ICE checks.

    Hook: the engine detects a vanished peer after 29 to 33 s; with this count it takes a few seconds.
    """

    def __init__(self, connection: RTCPeerConnection) -> None:
        self.closed_by_remote = False
        """Whether DTLS was closed by the remote's close_notify alert (RFC 8446 6.1), and not by a failure."""
        self._dtls = connection.getTransceivers()[0].receiver.transport
        self._dtls.on("statechange", self._dtls_state_changed)
        self._ice = IceTransport.of(self._dtls)

    @property
    def datagrams(self) -> int:
        """The number of datagrams received so far."""
        received: int = self._dtls._RTCDtlsTransport__rx_packets  # type: ignore[attr-defined]
        return received + self._ice.checks

    async def watch(self, receives_media: Callable[[], bool]) -> AsyncIterator[Change]:
        """Yield each change, as datagrams stop and resume, until the transport is lost.

        ``receives_media`` returns whether media is negotiated now: not while the call is on hold.
        """
        detector = SilenceDetector(self.datagrams, time.monotonic(), receives_media=receives_media())
        change: Change | None = None
        while change is not Change.LOST:
            await asyncio.sleep(INTERVAL)
            now = time.monotonic()
            detector.set_receives_media(receives_media(), now)
            if (change := detector.update(self.datagrams, now)) is not None:
                yield change

    def _dtls_state_changed(self) -> None:
        if self._dtls.state == "closed":
            tls = self._dtls._ssl
            self.closed_by_remote = tls is not None and bool(tls.get_shutdown() & SSL.RECEIVED_SHUTDOWN)
