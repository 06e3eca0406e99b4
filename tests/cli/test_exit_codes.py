"""Exit codes by reason and by error."""

from __future__ import annotations

import pytest

from peer import errors, events
from peer.cli import exit_codes as exits


@pytest.mark.parametrize(
    ("reason", "before", "after"),
    [
        ("hang-up", 0, 0),
        ("remote-hang-up", 4, 0),
        ("peer-left", 4, 6),
        ("no-answer", 4, 6),
        ("declined", 4, 6),
        ("timeout", 1, 6),
        ("transport-failed", 1, 6),
        ("replaced", 1, 6),
        ("media-error", 5, 5),
        ("shutdown", 130, 130),
    ],
)
def test_reason_maps_to_exit_code(reason: str, before: int, after: int) -> None:
    assert exits.for_reason(reason, connected=False) == before
    assert exits.for_reason(reason, connected=True) == after


def test_every_reason_has_an_exit_code() -> None:
    for reason in events.REASONS:
        assert reason in exits._BEFORE_CONNECTED
        assert reason in exits._AFTER_CONNECTED


@pytest.mark.parametrize(
    ("error", "code", "name"),
    [
        (errors.ConfigError("no"), 2, "usage"),
        (errors.ServerUnreachable("ws://r", "refused"), 3, "server-unreachable"),
        (errors.JoinRefused("ws://r", "id-taken", "no"), 3, "id-taken"),
        (errors.CallFailed("door", "declined"), 4, "declined"),
        (errors.MediaError("/dev/video9", "missing"), 5, "media-error"),
        (errors.ScriptError("f", 3, "no"), 1, "failed"),
        (errors.PeerError("no"), 1, "failed"),
    ],
)
def test_error_maps_to_exit_code_and_event_code(error: errors.PeerError, code: int, name: str) -> None:
    assert exits.for_error(error) == code
    assert exits.event_code(error) == name


@pytest.mark.parametrize(
    ("codes", "expected"), [([], 0), ([0, 0], 0), ([0, 4], 4), ([4, 4, 0], 4), ([4, 6], 1), ([1, 5], 1)]
)
def test_several_calls_combine_to_one_exit_code(codes: list[int], expected: int) -> None:
    assert exits.combined(codes) == expected
