"""What a connection asks the engine for."""

from __future__ import annotations

import pytest

from peer.rtc import aiortc_hooks
from peer.rtc.connection import _preferences


@pytest.fixture(autouse=True)
def _profiles() -> None:
    aiortc_hooks.widen_codecs()


def _names(codecs: tuple[str, ...], own: str | None = None) -> list[str]:
    return [str(codec.parameters.get("profile-level-id", codec.name)) for codec in _preferences(codecs, own)]


def test_codecs_come_in_the_users_order_and_baseline_before_other_profiles() -> None:
    h264 = ["42001f", "42e01f", "4d001f", "64001f", "f4001f"]
    assert _names(("vp8", "h264")) == ["VP8", *h264, "rtx"]
    assert _names(("h264", "vp8")) == [*h264, "VP8", "rtx"]
    assert _names(("vp8",)) == ["VP8", "rtx"]


@pytest.mark.parametrize(
    ("own", "first"),
    [
        ("640028", ["64001f", "f4001f", "42001f", "42e01f", "4d001f"]),
        ("4d401f", ["4d001f", "64001f", "f4001f", "42001f", "42e01f"]),
        ("42c01e", ["42e01f", "42001f", "4d001f", "64001f", "f4001f"]),
        ("6e001f", ["42001f", "42e01f", "4d001f", "64001f", "f4001f"]),
    ],
)
def test_the_profile_of_what_the_source_delivers_comes_before_others_that_take_it(own: str, first: list[str]) -> None:
    assert _names(("vp8", "h264"), own) == ["VP8", *first, "rtx"]
    assert _names(("h264",), own) == [*first, "rtx"]
