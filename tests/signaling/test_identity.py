"""Default ids and seat keys: permanent across restarts, never shared by two processes, never fatal."""

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
from peer.signaling.messages import MAX_INSTANCE, is_valid_id


def test_default_id_is_host_name_and_random_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "Front Döor.example.org")
    first, second = identity.default_id(), identity.default_id()
    assert first.startswith("Front-D-or-")
    assert is_valid_id(first)
    assert first != second


@pytest.mark.parametrize("host", ["", "...", "日本", "x" * 300])
def test_default_id_from_any_host_name_is_valid(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    assert is_valid_id(identity.default_id())


def test_identity_after_restart_is_the_same(tmp_path: Path) -> None:
    with identity.load(state=tmp_path) as first:
        key = first.key_for("ws://r/ws")
    with identity.load(state=tmp_path) as second:
        assert second.id == first.id
        assert second.key_for("ws://r/ws") == key


def test_identities_of_two_processes_differ(tmp_path: Path) -> None:
    with identity.load(state=tmp_path) as first, identity.load(state=tmp_path) as second:
        assert first.id != second.id
        assert first.key_for("ws://r/ws") != second.key_for("ws://r/ws")


def test_given_id_in_use_gets_a_temporary_key(tmp_path: Path) -> None:
    with identity.load("door", state=tmp_path) as first:
        key = first.key_for("ws://r/ws")
        with identity.load("door", state=tmp_path) as second:
            assert second.id == "door"
            assert second.key_for("ws://r/ws") != key
    with identity.load("door", state=tmp_path) as again:
        assert again.key_for("ws://r/ws") == key


def test_identity_of_killed_process_is_free_again(tmp_path: Path) -> None:
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


def test_id_in_use_by_another_process_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with identity.load("door", state=tmp_path) as first, identity.load("door", state=tmp_path) as second:
        assert first.key_for("ws://a/ws") != second.key_for("ws://a/ws")
    (line,) = caplog.messages
    assert line.startswith("another process uses the id door: after a crash")


def test_key_differs_by_relay_and_hides_the_secret(tmp_path: Path) -> None:
    with identity.load(state=tmp_path) as kept:
        keys = {kept.key_for("ws://a/ws"), kept.key_for("ws://b/ws")}
        assert len(keys) == 2
        secret = (tmp_path / "seat-0.json").read_text()
        assert not any(key in secret for key in keys)
        assert kept._secret.hex() not in repr(kept)


def test_state_file_has_mode_0600(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with identity.load(state=tmp_path / "new"):
            mode = stat.S_IMODE((tmp_path / "new" / "seat-0.json").stat().st_mode)
            assert mode == 0o600
    finally:
        os.umask(old)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "a b", "secret": "00"}', '{"id": 3, "secret": null}'])
def test_invalid_state_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "seat-0.json").write_text(content)
    with identity.load(state=tmp_path) as first:
        assert is_valid_id(first.id)
    with identity.load(state=tmp_path) as second:
        assert second.id == first.id


def test_unwritable_folder_yields_temporary_identity(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with caplog.at_level(logging.WARNING), identity.load(state=blocked / "state") as kept:
        assert is_valid_id(kept.id)
        assert len(kept.key_for("ws://r/ws")) == 32
    (line,) = caplog.messages
    assert "lost when this process ends" in line


def test_state_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with identity.load():
        assert (tmp_path / "peer" / "seat-0.json").exists()


def test_new_instance_is_short_and_never_the_same() -> None:
    instances = [identity.new_instance() for _ in range(100)]
    assert len(set(instances)) == 100
    assert all(is_valid_id(instance) and len(instance) <= MAX_INSTANCE for instance in instances)
