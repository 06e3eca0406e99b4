"""Everything the program needs of aiortc and aioice that they do not offer: their private parts, in one place.

Each hook says what the engine does without it (docs/engine.md has the measurements), and each has a contract
test in ``tests/rtc/test_aiortc_hooks.py`` that fails when a new release moves what is hooked.

The gathering is in ``ice``, the receiving in ``reception``, the sending in ``sending``. Must never: decide anything
about calls. May be imported by ``connection`` only.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, cast

from aiortc import RTCConfiguration, RTCPeerConnection, rtp
from aiortc.codecs import CODECS
from aiortc.rtcconfiguration import RTCBundlePolicy
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

log = logging.getLogger(__name__)

CLOSE_TIMEOUT: Final = 3.0

H264_PROFILES: Final = ("4d001f", "64001f", "f4001f")
"""profile-level-id (RFC 6184 8.1) of Main, High and High 4:4:4 Predictive, at the level that everybody states. The
last one is how a Chromium without hardware decoders says that it takes High, where it only receives."""

_CIPHERS: Final = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"
    b"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305"
)


DYNAMIC_PAYLOAD_TYPES: Final = frozenset((*range(35, 64), *range(96, 128)))
"""What may be negotiated where RTCP shares the port (RFC 5761 4, RFC 3551 6)."""


def widen_codecs() -> None:
    """Let Main and the High profiles be negotiated, behind what there is. May be repeated.

    Hook: the engine knows Baseline and Constrained Baseline only. Cameras and files are mostly in Main or High: to
    who cannot say that it takes these, none of them could be sent as it is. We take them all: FFmpeg decodes.

    Hook: the engine answers with a payload type of its own to one below 96, which may be that of something else in
    the same offer. Chromium, short of numbers, gives High 4:4:4 such a one; RFC 5761 4 allows them.
    """
    rtp.DYNAMIC_PAYLOAD_TYPES = DYNAMIC_PAYLOAD_TYPES  # type: ignore[assignment]
    known = CODECS["video"]
    for profile_level_id in H264_PROFILES:
        if any(codec.parameters.get("profile-level-id") == profile_level_id for codec in known):
            continue
        like = next(codec for codec in known if codec.name == "H264")
        payload_type = max(codec.payloadType or 0 for codec in known) + 1
        main = replace(
            copy.deepcopy(like),
            payloadType=payload_type,
            parameters={**like.parameters, "profile-level-id": profile_level_id},
        )
        again = RTCRtpCodecParameters(
            "video/rtx", like.clockRate, payloadType=payload_type + 1, parameters={"apt": payload_type}
        )
        known += [main, again]


def open_peer_connection(on_failure: Callable[[], None] = lambda: None) -> RTCPeerConnection:
    """Open a connection with one transport for all media and no ICE servers (``ice_gathering`` gathers).

    Hook: the engine connects in a task that nobody watches; what it raises there (a description without a
    fingerprint) is told by ``on_failure``.

    Hook: as DTLS client the engine offers ECDSA suites only, so peers with an RSA certificate (GStreamer 1.22)
    cannot connect; ECDHE-RSA suites are added.
    """
    widen_codecs()
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    certificate = connection._RTCPeerConnection__certificates[0]  # type: ignore[attr-defined]
    create = certificate._create_ssl_context

    def create_ssl_context(srtp_profiles: Any) -> Any:
        context = create(srtp_profiles)
        context.set_cipher_list(_CIPHERS)
        return context

    certificate._create_ssl_context = create_ssl_context
    engine = cast(Any, connection)
    connect = engine._RTCPeerConnection__connect

    async def watched_connect() -> None:
        try:
            await connect()
        except Exception as exc:
            log.info("= not connected: %s: %s", type(exc).__name__, exc)
            on_failure()

    engine._RTCPeerConnection__connect = watched_connect
    return connection


async def close(connection: RTCPeerConnection) -> None:
    """Close ``connection``, whatever it takes: what a description broke must not keep sockets and tasks.

    Hook: the engine's ``close`` raises or waits for ever when a task of its own had died before.
    """
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await connection.close()
        return
    except Exception as exc:
        log.warning("a connection did not close in good order (%s); it is taken apart", exc or type(exc).__name__)
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
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await ice.stop()
        except Exception as exc:
            log.warning("sockets of a connection may be left behind: %s", exc or type(exc).__name__)


def ice_connection(connection: RTCPeerConnection) -> Any:
    """The one ``aioice.Connection`` under all transceivers (MAX_BUNDLE)."""
    return connection.getTransceivers()[0].receiver.transport.transport._connection
