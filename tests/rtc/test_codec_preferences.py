"""Codec preferences: the user's order, RTX last, and the H.264 profile that the source delivers first."""

from __future__ import annotations

import pytest
from aiortc import RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtpCodecCapability

from peer.rtc import aiortc_hooks
from peer.rtc.codec_preferences import default_codecs, preferred_codecs


@pytest.fixture(autouse=True, scope="module")
def widened() -> None:
    aiortc_hooks.widen_codecs()


def _names(codecs: tuple[str, ...], profile_level_id: str | None = None) -> list[str]:
    known = RTCRtpSender.getCapabilities("video").codecs
    preferred = preferred_codecs(known, codecs, profile_level_id)
    return [_name(codec) for codec in preferred]


def _name(codec: RTCRtpCodecCapability) -> str:
    """The profile-level-id of H.264, in packetization-mode 0 with a suffix; the name of another codec."""
    suffix = "/0" if codec.parameters.get("packetization-mode") == "0" else ""
    return f"{codec.parameters.get('profile-level-id', codec.name)}{suffix}"


def _both_modes(profiles: list[str]) -> list[str]:
    return [*profiles, *(f"{profile}/0" for profile in profiles)]


def test_default_without_h264_source_puts_vp8_first() -> None:
    assert default_codecs(None) == ("vp8", "h264")
    assert default_codecs("640028") == ("h264", "vp8")


def test_preferences_keep_the_users_order_and_baseline_first() -> None:
    h264 = _both_modes(["42001f", "42e01f", "4d001f", "64001f", "640c1f", "f4001f"])
    assert _names(("vp8", "h264")) == ["VP8", *h264, "rtx"]
    assert _names(("h264", "vp8")) == [*h264, "VP8", "rtx"]
    assert _names(("vp8",)) == ["VP8", "rtx"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("640028", ["64001f", "f4001f", "42001f", "42e01f", "4d001f", "640c1f"]),
        ("4d401f", ["4d001f", "64001f", "f4001f", "42001f", "42e01f", "640c1f"]),
        ("42c01e", ["42e01f", "42001f", "4d001f", "64001f", "640c1f", "f4001f"]),
        ("6e001f", ["42001f", "42e01f", "4d001f", "64001f", "640c1f", "f4001f"]),
    ],
)
def test_preferences_put_the_sources_h264_profile_first(source: str, expected: list[str]) -> None:
    assert _names(("vp8", "h264"), source) == ["VP8", *_both_modes(expected), "rtx"]
    assert _names(("h264",), source) == [*_both_modes(expected), "rtx"]
