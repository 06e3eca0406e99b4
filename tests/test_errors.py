"""Texts of errors: what to try, and no credentials."""

from __future__ import annotations

import pytest

from peer.errors import (
    CallFailed,
    ConfigError,
    JoinRefused,
    MediaError,
    NotHere,
    PeerError,
    ProtocolError,
    ScriptError,
    ServerUnreachable,
    redacted,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://camera:554/x", "rtsp://camera:554/x"),
        ("rtsp://camera/stream@1", "rtsp://camera/stream@1"),
        ("rtsp://me:pass@camera/x", "rtsp://camera/x"),
        ("rtsp://me:p@ss@camera/x", "rtsp://camera/x"),
        ("rtsp://me:p/a@s/s@camera:554/x", "rtsp://camera:554/x"),
        ("rtsp://pass@camera/x", "rtsp://camera/x"),
        ("me:pass@camera", "camera"),
        ("rtsp:/me:pass@camera", "camera"),
        ("no way to wss://me:pass@relay/ws by http://me:pass@proxy", "no way to wss://relay/ws by http://proxy"),
        ("mail to me@example is fine", "mail to me@example is fine"),
        ("", ""),
    ],
)
def test_redacted_text_has_no_credentials(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("code", "hint"), [("id-taken", "--id"), ("unauthorized", "--token-file or PEER_TOKEN"), ("room-full", "--room")]
)
def test_join_refused_suggests_what_to_try(code: str, hint: str) -> None:
    assert hint in str(JoinRefused("ws://r/ws", code, "no")).rpartition("; ")[2]


def test_errors_about_relay_have_no_password() -> None:
    url = "wss://me:p@ss/word@relay.example/ws"
    for error in (
        ServerUnreachable(url, f"{url} isn't a valid URI"),
        JoinRefused(url, "unauthorized", "the token was refused"),
    ):
        assert error.url == "wss://relay.example/ws"
        assert "wss://relay.example/ws" in str(error)
        assert "word" not in repr(error) + str(error)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConfigError("must be positive"), "must be positive"),
        (ConfigError("must be positive", where="--fps"), "--fps: must be positive"),
        (ProtocolError("bad-message", "not JSON"), "bad-message: not JSON"),
        (ServerUnreachable("ws://r/ws", "no answer", None), "cannot reach the relay at ws://r/ws: no answer"),
        (ServerUnreachable("ws://r/ws", "no answer", "see its log"), "ws://r/ws: no answer; see its log"),
        (
            JoinRefused("ws://r/ws", "bad-join", "no room"),
            "the relay at ws://r/ws rejected the join: no room (bad-join)",
        ),
        (JoinRefused("ws://r/ws", "id-taken", "taken", "wait"), "taken (id-taken); wait"),
        (
            JoinRefused("ws://r/ws", "unauthorized", "the token is for another room"),
            "another room (unauthorized); name the token's room with --room",
        ),
        (JoinRefused("ws://r/ws", "unauthorized", "the token is wrong"), "pass its token with --token-file"),
        (CallFailed("door", "declined"), "call with door ended: declined"),
        (CallFailed("door", "timeout", "after 15 s"), "call with door ended: timeout (after 15 s)"),
        (NotHere("door"), "door is not in the room; see `peer list`"),
        (MediaError("camera", "no such device"), "camera: no such device"),
        (MediaError("camera", "no such device", "see `peer devices`"), "no such device; see `peer devices`"),
        (ScriptError("demo.peer", 3, "unknown step"), "demo.peer:3: unknown step"),
    ],
    ids=repr,
)
def test_error_text_says_what_failed_and_why(error: PeerError, text: str) -> None:
    assert text in str(error)


def test_not_here_is_a_failed_call_without_answer() -> None:
    assert isinstance(NotHere("door"), CallFailed)
    assert NotHere("door").reason == "no-answer"
