"""Secrets read from files: whitespace, size, and the option in the error."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.errors import ConfigError
from server.admission.secret_files import MAX_SECRET, read_secret


def test_surrounding_whitespace_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b" \n se cret\r\n\n")
    assert read_secret(str(path), "--token-file") == b"se cret"


def test_largest_secret_is_accepted_and_a_larger_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"x" * MAX_SECRET)
    assert len(read_secret(str(path), "--token-file")) == MAX_SECRET
    path.write_bytes(b"x" * (MAX_SECRET + 1))
    with pytest.raises(ConfigError, match=r"--token-file: .*is this the right file"):
        read_secret(str(path), "--token-file")


@pytest.mark.parametrize("content", [b"", b" \n\t"])
def test_empty_file_raises(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"--jwt-key: .*token: the file is empty"):
        read_secret(str(path), "--jwt-key")


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), (".", "Is a directory"), ("\0", "null")])
def test_unreadable_file_raises_with_the_reason(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"--token-file: .*{reason}"):
        read_secret(f"{tmp_path}/{name}", "--token-file")
