"""Texts of errors: what to try, and no credentials."""

from __future__ import annotations

import pytest

from peer.errors import JoinRefused, ServerUnreachable, redacted


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
