"""Default ids and seat keys: kept across restarts, never shared by two processes, never fatal."""

from __future__ import annotations

import logging
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from peer.signaling import identity
from peer.signaling.messages import is_valid_id


def test_a_default_id_is_the_host_name_and_a_random_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Front Döor.example.org")
    first, second = identity.default_id(), identity.default_id()
    assert first.startswith("Front-D-or-")
    assert is_valid_id(first)
    assert first != second


@pytest.mark.parametrize("host", ["", "...", "日本", "x" * 300])
def test_any_host_name_makes_a_valid_id(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert is_valid_id(identity.default_id())


def test_the_id_and_the_key_survive_a_restart(tmp_path: Path) -> None:
    with identity.load(state=tmp_path) as first:
        key = first.key_for("ws://r/ws")
    with identity.load(state=tmp_path) as second:
        assert second.id == first.id
        assert second.key_for("ws://r/ws") == key


def test_two_at_once_have_two_ids_and_two_keys(tmp_path: Path) -> None:
    with identity.load(state=tmp_path) as first, identity.load(state=tmp_path) as second:
        assert first.id != second.id
        assert first.key_for("ws://r/ws") != second.key_for("ws://r/ws")


def test_a_wanted_id_keeps_its_key_but_not_for_two_at_once(tmp_path: Path) -> None:
    with identity.load("door", state=tmp_path) as first:
        key = first.key_for("ws://r/ws")
        with identity.load("door", state=tmp_path) as second:
            assert second.id == "door"
            assert second.key_for("ws://r/ws") != key
    with identity.load("door", state=tmp_path) as again:
        assert again.key_for("ws://r/ws") == key


def test_a_killed_process_frees_its_seat(tmp_path: Path) -> None:
    code = "import sys, pathlib; from peer.signaling import identity;"
    code += "kept = identity.load(state=pathlib.Path(sys.argv[1]));"
    code += "print(kept.id, flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        theirs = process.stdout.readline().strip()
        with identity.load(state=tmp_path) as ours:
            assert ours.id != theirs
        process.kill()
        process.wait()
    with identity.load(state=tmp_path) as ours:
        assert ours.id == theirs


def test_each_relay_gets_a_key_of_its_own_and_none_gets_the_secret(tmp_path: Path) -> None:
    with identity.load(state=tmp_path) as kept:
        keys = {kept.key_for("ws://a/ws"), kept.key_for("ws://b/ws")}
        assert len(keys) == 2
        secret = (tmp_path / "seat-0.json").read_text()
        assert not any(key in secret for key in keys)
        assert kept._secret.hex() not in repr(kept)


def test_the_state_file_is_for_its_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with identity.load(state=tmp_path / "new"):
            mode = stat.S_IMODE((tmp_path / "new" / "seat-0.json").stat().st_mode)
            assert mode == 0o600
    finally:
        os.umask(old)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "a b", "secret": "00"}', '{"id": 3, "secret": null}'])
def test_a_broken_state_file_is_made_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "seat-0.json").write_text(content)
    with identity.load(state=tmp_path) as first:
        assert is_valid_id(first.id)
    with identity.load(state=tmp_path) as second:
        assert second.id == first.id


def test_without_a_place_to_write_there_is_a_fresh_identity_and_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with caplog.at_level(logging.WARNING), identity.load(state=blocked / "state") as kept:
        assert is_valid_id(kept.id)
        assert len(kept.key_for("ws://r/ws")) == 32
    (line,) = caplog.messages
    assert "last until the process ends" in line


def test_the_place_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with identity.load():
        assert (tmp_path / "peer" / "seat-0.json").exists()
