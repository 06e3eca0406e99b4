"""NTP timestamps, also around the end of their first era in 2036."""

from __future__ import annotations

import pytest

from peer.rtp.ntp import NTP_EPOCH, from_ntp, to_ntp

END_OF_ERA = (1 << 32) - NTP_EPOCH
"""7 February 2036, 06:28:16 UTC, in Unix seconds."""


@pytest.mark.parametrize("seconds", [0.0, 1_800_000_000.5, END_OF_ERA - 0.25, END_OF_ERA, END_OF_ERA + 100.5])
@pytest.mark.parametrize("clock_error", [-3600.0, 0.0, 3600.0])
def test_ntp_timestamp_converts_both_ways(seconds: float, clock_error: float) -> None:
    assert from_ntp(to_ntp(seconds), seconds + clock_error) == pytest.approx(seconds, abs=1e-6)


def test_ntp_timestamp_starts_at_zero_after_its_era() -> None:
    assert to_ntp(END_OF_ERA) == 0
    assert to_ntp(END_OF_ERA - 1) == 0xFFFFFFFF << 32
