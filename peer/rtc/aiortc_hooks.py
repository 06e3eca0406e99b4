"""Hooks into private parts of aiortc and aioice, for functions that this project needs and they do not offer.

Each hook states what the engine does without it (measurements: docs/engine.md). Each has a contract test in
``tests/rtc/test_aiortc_hooks.py``, which fails when a new release moves the hooked part.

Gathering is hooked in ``ice_gathering``, receiving in ``receiver`` and ``rtp_fast_path``, sending in ``sender``. This
module decides nothing about calls. Only ``peer.rtc`` imports it.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from aiortc import RTCConfiguration, RTCPeerConnection, rtp
from aiortc.codecs import CODECS
from aiortc.rtcconfiguration import RTCBundlePolicy, RTCIceTransportPolicy
from aiortc.rtcdtlstransport import X509_DIGEST_ALGORITHMS, RTCDtlsParameters, certificate_digest
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from ..log_limit import LimitedLogger
from ..media.sources.passthrough import profile
from ..timeouts import CleanupTimeout
from .sdp_codecs import SupportedCodecs

log = LimitedLogger(logging.getLogger(__name__))
T = TypeVar("T")

CLOSE_TIMEOUT: Final = 3.0
"""Maximum time for closing a connection, in seconds. It takes milliseconds unless a task of the engine hangs."""

MAX_DATAGRAM: Final = 2048
"""Maximum size of a received datagram, in bytes. Peers send at most 1,500, the MTU of Ethernet. Buffers of packets
are limited by number, so large packets would occupy much memory."""

H264_PROFILES: Final = ("4d001f", "64001f", "640c1f", "f4001f")
"""profile-level-id (RFC 6184 8.1) of Main, High, Constrained High and High 4:4:4 Predictive, at level 3.1, which all
browsers state. A Chromium without hardware decoders uses the last one to announce that it receives High."""

DYNAMIC_PAYLOAD_TYPES: Final = frozenset((*range(35, 64), *range(96, 128)))
"""Payload types that may be negotiated where RTP and RTCP share a port (RFC 5761 4, RFC 3551 6)."""

_CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
)


def widen_codecs() -> None:
    """Add Main, the High profiles, and packetization-mode 0 to the engine's codecs, behind its own. Idempotent.

    Hook: the engine supports only Baseline and Constrained Baseline. Most cameras and files are in Main or High, and
    passthrough requires that their profile is negotiated. All of them can be received, because FFmpeg decodes them.

    Hook: the engine supports only packetization-mode 1, and a description without the parameter means mode 0 (RFC
    6184 8.1). Our senders support both.

    Hook: where the offer has a payload type below 96, the engine answers with a different one, which may belong to
    another codec of the offer. Chromium uses such numbers (RFC 5761 4 allows them) for High 4:4:4 when it runs out.
    """
    rtp.DYNAMIC_PAYLOAD_TYPES = DYNAMIC_PAYLOAD_TYPES  # type: ignore[assignment]
    known = CODECS["video"]
    h264 = [codec for codec in known if codec.name == "H264"]
    own = [str(codec.parameters["profile-level-id"]) for codec in h264]
    present = {(codec.parameters["profile-level-id"], codec.parameters["packetization-mode"]) for codec in h264}
    for mode in ("1", "0"):
        for profile_level_id in dict.fromkeys((*own, *H264_PROFILES)):
            if (profile_level_id, mode) in present:
                continue
            payload_type = max(codec.payloadType or 0 for codec in known) + 1
            codec = replace(
                copy.deepcopy(h264[0]),
                payloadType=payload_type,
                parameters={
                    **h264[0].parameters,
                    "profile-level-id": profile_level_id,
                    "packetization-mode": mode,
                },
            )
            rtx = RTCRtpCodecParameters(
                "video/rtx", codec.clockRate, payloadType=payload_type + 1, parameters={"apt": payload_type}
            )
            known += [codec, rtx]


def supported_codecs(video_codecs: Sequence[str]) -> SupportedCodecs:
    """Return the codecs of the engine; of its video codecs those named in ``video_codecs``, in lower case."""
    widen_codecs()
    names, h264 = set(), set()
    for codec in (*CODECS["audio"], *CODECS["video"]):
        kind, _, name = codec.mimeType.lower().partition("/")
        if kind == "audio" or name == "rtx" or name in video_codecs:
            names.add(f"{name}/{codec.clockRate}" + (f"/{codec.channels}" if (codec.channels or 1) > 1 else ""))
        if name == "h264":
            mode = int(codec.parameters.get("packetization-mode") or 0)
            h264.add((profile(str(codec.parameters.get("profile-level-id", ""))), mode))
    return SupportedCodecs(frozenset(names), frozenset(h264))


def open_peer_connection(
    on_failure: Callable[[], None] = lambda: None, relay_only: bool = False
) -> RTCPeerConnection:
    """Open a connection with one transport for all media and no ICE servers; ``ice_gathering`` gathers.

    With ``relay_only``, mDNS names of the remote are not resolved: a query would reveal this machine to its network.

    Hook: the engine connects in a task whose exceptions are lost, such as the one for a description without a
    fingerprint. ``on_failure`` is called after such an exception.

    Hook: as DTLS client the engine offers only ECDSA suites, so that peers with an RSA certificate (GStreamer 1.22)
    cannot connect. ECDHE-RSA suites are added.
    """
    widen_codecs()
    connection = RTCPeerConnection(
        RTCConfiguration(
            iceServers=[],
            iceTransportPolicy=RTCIceTransportPolicy.RELAY if relay_only else RTCIceTransportPolicy.ALL,
            bundlePolicy=RTCBundlePolicy.MAX_BUNDLE,
        )
    )
    certificate = connection._RTCPeerConnection__certificates[0]  # type: ignore[attr-defined]
    create = certificate._create_ssl_context

    def create_ssl_context(srtp_profiles: Any) -> Any:
        context = create(srtp_profiles)
        context.set_cipher_list(_CIPHERS)
        return context

    certificate._create_ssl_context = create_ssl_context
    engine = cast(Any, connection)
    connect = engine._RTCPeerConnection__connect

    async def connect_and_report() -> None:
        try:
            await connect()
        except Exception as exc:
            log.info("= connecting failed: %s: %s", type(exc).__name__, exc)
            on_failure()

    engine._RTCPeerConnection__connect = connect_and_report
    return connection


def attached(owner: Any, make: Callable[[Any], T]) -> T:
    """Return what ``make(owner)`` returned in the first call for this engine object; see ``IceTransport.of``."""
    objects: dict[Any, Any] = owner.__dict__.setdefault("_peer_attached", {})
    if make not in objects:
        objects[make] = make(owner)
    return cast(T, objects[make])


def limit_datagrams(protocol: Any) -> None:
    """Drop datagrams above ``MAX_DATAGRAM`` before they are parsed. ``protocol``: aioice's of one socket. Idempotent.

    Hook: aioice first parses every datagram, from any sender, as STUN; the engine passes on up to 65,507 bytes.

    Hook: asyncio allocates a buffer of 256 KiB for each datagram, which takes 14 of 30 us.
    """
    if getattr(protocol, "_peer_limits_datagrams", False):
        return
    protocol._peer_limits_datagrams = True
    if hasattr(protocol.transport, "max_size"):  # a UDP socket, not a TURN transport
        protocol.transport.max_size = MAX_DATAGRAM + 1  # the kernel truncates, and one more byte shows it
    receive = protocol.datagram_received

    def drop_large(data: bytes, address: tuple[Any, ...]) -> None:
        if len(data) <= MAX_DATAGRAM:
            receive(data, address)

    protocol.datagram_received = drop_large


def ignore_malformed_rtcp(connection: RTCPeerConnection) -> None:
    """Drop RTCP that the engine cannot process. Call it once per connection, after the first transceiver.

    Hook: an RTCP packet that raises in a handler closes the transport, for example a REMB with too few SSRCs.
    """
    dtls = cast(Any, connection.getTransceivers()[0].receiver.transport)
    handle_rtcp_data = dtls._handle_rtcp_data

    async def drop_malformed(data: bytes) -> None:
        try:
            await handle_rtcp_data(data)
        except Exception as exc:
            log.debug("< dropped a malformed RTCP packet: %s", exc)

    dtls._handle_rtcp_data = drop_malformed


def share_identity(connection: RTCPeerConnection, other: RTCPeerConnection) -> None:
    """Give ``connection`` the certificate, the CNAME and the stream id of ``other``. Call it before it has media.

    Hook: the engine has no parameters for these. Connections of one call have to look like one to the remote, which
    may require one fingerprint for all media (GStreamer), and synchronizes audio and video by CNAME (RFC 3550 6.5.1).
    """
    for name in ("certificates", "cname", "stream_id"):
        attribute = f"_RTCPeerConnection__{name}"
        assert hasattr(connection, attribute), f"the engine no longer has {name}"
        setattr(connection, attribute, getattr(other, attribute))


def accept_any_fingerprint(connection: RTCPeerConnection) -> None:
    """Accept a certificate that matches one of several fingerprints. Call it once, after the first transceiver.

    Of the fingerprints in a description, those of the strongest hash function count, and the certificate must match
    one of them (RFC 8122 5).

    Hook: the engine requires that all fingerprints match, so a remote that describes several certificates fails.
    """
    dtls = cast(Any, connection.getTransceivers()[0].receiver.transport)
    validate = dtls._validate_peer_identity

    def validate_strongest(remote: RTCDtlsParameters) -> None:
        offered = {one.algorithm.lower() for one in remote.fingerprints}
        strongest = next((name for name in reversed(X509_DIGEST_ALGORITHMS) if name in offered), "")
        fingerprints = [one for one in remote.fingerprints if one.algorithm.lower() == strongest]
        if len(fingerprints) > 1:
            digest = certificate_digest(dtls._ssl.get_peer_certificate(as_cryptography=True), strongest)
            fingerprints = [one for one in fingerprints if one.value.upper() == digest] or fingerprints
        validate(replace(remote, fingerprints=fingerprints))

    dtls._validate_peer_identity = validate_strongest


async def close(connection: RTCPeerConnection) -> None:
    """Close ``connection`` and release its sockets and tasks, even if the engine fails to. Raises nothing.

    Hook: the engine's ``close`` raises, or never returns, if one of its tasks died before.
    """
    try:
        async with CleanupTimeout(CLOSE_TIMEOUT):
            await connection.close()
        return
    except Exception as exc:
        log.warning("a connection failed to close and is taken apart: %s", exc or type(exc).__name__)
    engine = cast(Any, connection)
    tasks = []
    for transceiver in connection.getTransceivers():
        sender, receiver = cast(Any, transceiver.sender), cast(Any, transceiver.receiver)
        tasks += [sender._RTCRtpSender__rtp_task, sender._RTCRtpSender__rtcp_task]
        tasks += [receiver._RTCRtpReceiver__rtcp_task]
        receiver._RTCRtpReceiver__stop_decoder()
    for dtls in engine._RTCPeerConnection__dtlsTransports:
        tasks.append(dtls._task)
    for task in tasks:
        if task is not None:
            task.cancel()
    for ice in engine._RTCPeerConnection__iceTransports:
        try:
            async with CleanupTimeout(CLOSE_TIMEOUT):
                await ice.stop()
        except Exception as exc:
            log.warning("a connection may have left sockets open: %s", exc or type(exc).__name__)
