"""``peer serve --cluster``, as processes, and its errors."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.program import QUIET, Program
from tests.redis_server import RedisServer, redis_server


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server("--requirepass", "hunter2") as server:
        yield server


def test_peers_of_two_clustered_relays_meet(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_CLUSTER", redis.url.replace("//", "//:hunter2@"))
    with Program("serve", "--port", "0", "--json") as one, Program("serve", "--port", "0", "--json") as two:
        here, there = one.expect("listening")["url"], two.expect("listening")["url"]
        with Program("run", "--id", "door", "--server", here, "--json", *QUIET) as door:
            door.expect("joined")
            with Program("list", "--server", there, "--json") as seen:
                assert seen.wait() == 0
    assert seen.events[0]["peers"] == ["door"]


def serve(url: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PEER_CLUSTER": url}
    command = [sys.executable, "-m", "peer", "serve", "--port", "0"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("redis://127.0.0.1:{closed}", 3, "Connection refused"),
        ("redis://127.0.0.1:{open}", 3, "user and password"),
        ("redis://:secret@127.0.0.1:{open}", 3, "user and password"),
        ("http://:secret@127.0.0.1", 2, "write it like redis://host:6379/0"),
        ("redis://:secret@127.0.0.1/x", 2, "write it like redis://host:6379/0"),
        ("redis://:secret@127.0.0.1?prefix=a:b", 2, "prefix=a:b"),
        ("redis://:secret@127.0.0.1?timeout=1", 2, "unknown parameter timeout="),
    ],
)
def test_unusable_redis_error_has_one_line_and_no_password(
    redis: RedisServer, url: str, code: int, message: str
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = serve(url.format(closed=closed.getsockname()[1], open=redis.port))
    assert done.returncode == code and message in done.stderr, done.stderr
    lines = [line for line in done.stderr.splitlines() if "listening" not in line and "stopping" not in line]
    assert len(lines) == 1 and "secret" not in done.stderr


def test_missing_redis_library_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "redis.py").write_text("raise ModuleNotFoundError(\"No module named 'redis'\", name='redis')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = serve("redis://127.0.0.1")
    assert done.returncode == 2 and "pip install 'headless-webrtc-peer[cluster]'" in done.stderr
