"""A scripted RTCPeerConnection: each step succeeds at once, raises, or hangs, as the test says. No sockets."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

from aioice import Candidate, TransportPolicy
from aiortc import RTCSessionDescription
from OpenSSL import SSL

HANG: Final = "hang"
"""A step that does not return until ``released`` is set."""

Outcome = BaseException | str
"""What a step does instead of returning: raise this exception, or ``HANG``."""

DESCRIPTION: Final = (
    "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n"
    f"a=fingerprint:sha-256 {':'.join(['0A'] * 32)}\r\na=setup:active\r\n"
    "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-mux\r\n"
    "a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n"
    "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\na=end-of-candidates\r\n"
    "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=rtpmap:96 VP8/90000\r\n"
)
"""The description of either side, with one candidate and end-of-candidates in its first section."""


class ScriptedIce:
    """The parts of ``aioice.Connection`` that are used. ``added`` holds the remote candidates."""

    def __init__(self, engine: ScriptedPeerConnection) -> None:
        self._engine = engine
        self.local_username = "ufrag"
        self.added: list[Candidate] = []
        self._local_candidates: list[Candidate] = []
        self._local_candidates_start = False
        self._local_candidates_end = False
        self._protocols: list[Any] = []
        self._check_list: list[Any] = []
        self._closing = False
        self._queue: Any = None
        self._event_waiter: Any = None
        self._transport_policy = TransportPolicy.ALL
        self.ice_controlling = True

    def sort_check_list(self) -> None:
        raise AssertionError("replaced by a hook")

    async def get_component_candidates(self, component: int, addresses: list[str]) -> list[Candidate]:
        await self._engine.step("gather")
        return []

    async def gather_candidates(self) -> None:
        raise AssertionError("replaced by a hook")

    async def add_remote_candidate(self, candidate: Candidate) -> None:
        self.added.append(candidate)
        await self._engine.step(f"add {candidate.host}")

    def request_received(self, *args: object) -> None:
        """An ICE check."""

    async def connect(self) -> None:
        raise AssertionError("replaced by a hook")

    async def send(self, data: bytes) -> None:
        raise AssertionError("nothing is sent in these tests")


class ScriptedDtls:
    """The parts of ``RTCDtlsTransport`` that are used."""

    def __init__(self, ice: ScriptedIce) -> None:
        gatherer = SimpleNamespace(_connection=ice)
        self.transport = SimpleNamespace(_connection=ice, _recv=None, _send=None, iceGatherer=gatherer)
        self.transport.state = "new"
        self.state = "new"
        self._ssl: Any = None
        self._task = None
        self._RTCDtlsTransport__rx_packets = 0
        self._listeners: list[Callable[[], None]] = []

    def on(self, event: str, listener: Callable[[], None]) -> None:
        assert event == "statechange"
        self._listeners.append(listener)

    def _validate_peer_identity(self, remote: object) -> None:
        raise AssertionError("no handshake in these tests")

    async def _handle_rtcp_data(self, data: bytes) -> None:
        raise AssertionError("no RTCP in these tests")

    def close_by_remote(self) -> None:
        """Close as after a close_notify alert."""
        self.state = "closed"
        self._ssl = SimpleNamespace(get_shutdown=lambda: SSL.RECEIVED_SHUTDOWN)
        for listener in self._listeners:
            listener()


class ScriptedTransceiver:
    """The parts of ``RTCRtpTransceiver`` that are used. ``track`` is the receiver's."""

    def __init__(self, kind: str, direction: str, dtls: ScriptedDtls, track: object = None) -> None:
        self.kind = kind
        self.direction = direction
        self.mid: str | None = None
        self.currentDirection: str | None = None
        self.preferences: list[Any] = []
        self.decoder_stopped = False
        self.sender = SimpleNamespace(_RTCRtpSender__rtp_task=None, _RTCRtpSender__rtcp_task=None)
        self.receiver = SimpleNamespace(
            track=track,
            transport=dtls,
            _RTCRtpReceiver__rtcp_task=None,
            _RTCRtpReceiver__stop_decoder=self._stop_decoder,
        )

    def setCodecPreferences(self, codecs: list[Any]) -> None:
        self.preferences = codecs

    def _stop_decoder(self) -> None:
        self.decoder_stopped = True


class ScriptedPeerConnection:
    """``script`` maps the names of steps to their outcomes; the steps that were started are in ``steps``."""

    def __init__(self, script: dict[str, Outcome] | None = None) -> None:
        self.script = script or {}
        self.steps: list[str] = []
        self.hanging = asyncio.Event()
        self.released = asyncio.Event()
        self.connectionState = "new"
        self.connecting_failed: Callable[[], None] = lambda: None
        self.relay_only = False
        self.ice = ScriptedIce(self)
        self.dtls = ScriptedDtls(self.ice)
        self.remote: RTCSessionDescription | None = None
        self.localDescription = RTCSessionDescription(DESCRIPTION, "offer")
        self.tracks: list[str] = []
        """The kinds of the remote's tracks, one transceiver for each, which ``setRemoteDescription`` adds."""
        self._transceivers: list[ScriptedTransceiver] = []
        self._listeners: dict[str, Callable[[], None]] = {}
        self._RTCPeerConnection__dtlsTransports = [self.dtls]
        self._RTCPeerConnection__iceTransports = [SimpleNamespace(stop=lambda: self.step("stop ice"))]

    def open(self, on_failure: Callable[[], None], relay_only: bool) -> Any:
        """Stand in for ``aiortc_hooks.open_peer_connection``."""
        self.connecting_failed, self.relay_only = on_failure, relay_only
        self.steps.append("open")
        return self

    async def step(self, name: str) -> None:
        self.steps.append(name)
        outcome = self.script.get(name)
        if outcome == HANG:
            self.hanging.set()
            await self.released.wait()
        if isinstance(outcome, BaseException):
            raise outcome

    def change_state(self, state: str) -> None:
        self.connectionState = state
        self._listeners["connectionstatechange"]()

    # --- the engine's interface ---

    def on(self, event: str, listener: Callable[[], None]) -> None:
        self._listeners[event] = listener

    def addTransceiver(self, kind: str, direction: str) -> ScriptedTransceiver:
        transceiver = ScriptedTransceiver(kind, direction, self.dtls)
        self._transceivers.append(transceiver)
        return transceiver

    def getTransceivers(self) -> list[ScriptedTransceiver]:
        return self._transceivers

    def getSenders(self) -> list[Any]:
        return []

    async def createOffer(self) -> RTCSessionDescription:
        await self.step("createOffer")
        return RTCSessionDescription(DESCRIPTION, "offer")

    async def createAnswer(self) -> RTCSessionDescription:
        await self.step("createAnswer")
        return RTCSessionDescription(DESCRIPTION, "answer")

    async def setLocalDescription(self, description: RTCSessionDescription) -> None:
        await self.step("setLocalDescription")
        gather: Any = self.ice
        await gather.gather_candidates()

    async def setRemoteDescription(self, description: RTCSessionDescription) -> None:
        await self.step("setRemoteDescription")
        self.remote = description
        if description.type == "offer":  # an answer has the sections of the offer
            head, *sections = re.split("(?=m=)", DESCRIPTION)
            kinds = re.findall("m=([a-z]+)", description.sdp)
            answer = head + "".join(one for one in sections if one[2:7] in kinds)
            self.localDescription = RTCSessionDescription(answer, "answer")
        self._transceivers += [ScriptedTransceiver(kind, "recvonly", self.dtls, object()) for kind in self.tracks]
        self.tracks.clear()
        for transceiver in self._transceivers:
            transceiver.currentDirection = transceiver.direction

    async def close(self) -> None:
        await self.step("close")
