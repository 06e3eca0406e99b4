"""``peer serve``, as a process: its addresses, its metrics, its log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from server.config import RelayConfig
from tests.cli.parameters import params
from tests.cli.program import Program


def test_serve_without_options_runs_the_default_configuration() -> None:
    given = params("serve")
    config = RelayConfig(**{field.name: given[field.name] for field in fields(RelayConfig) if field.name in given})
    assert config == RelayConfig()


def test_serve_has_every_declared_option() -> None:
    declared = {field.name for field in fields(RelayConfig) if "description" in field.metadata}
    shared = {"token", "token_file", "config", "as_json", "verbose", "quiet", "log_format"}
    assert set(params("serve")) - shared == declared


def test_serve_contradiction_names_the_option() -> None:
    with Program("serve", "--max-buffers", "100") as program:
        assert program.wait() == 2
        assert "--max-buffers: must hold at least one message" in program.errors


def test_list_without_relay_exits_with_3() -> None:
    with Program("list", "--server", "ws://127.0.0.1:9/ws", "--timeout", "200ms", "--json") as program:
        assert program.wait() == 3
    assert program.events[-1]["code"] == "server-unreachable"


def test_serve_prints_its_address_and_exits_with_0() -> None:
    with Program("serve", "--port", "0", "--json") as program:
        where = program.expect("listening")
        with urllib.request.urlopen(where["page"], timeout=5) as page:
            assert page.status == 200
        with urllib.request.urlopen(where["page"] + "healthz", timeout=5) as health:
            assert health.status == 200
        program.send(signal.SIGTERM)
        assert program.wait() == 0


def test_serve_prints_the_metrics_address() -> None:
    with Program("serve", "--port", "0", "--metrics", "0", "--json") as program:
        where = program.expect("listening")["metrics"]
        assert where.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(where, timeout=10) as answer:
            assert b"\nrelay_ready 1.0\n" in answer.read()


@pytest.mark.parametrize("where", ["here", "localhost:99999", ":", "::1:9100", "[::1]", "1:2:3"])
def test_metrics_invalid_address_exits_with_2(where: str) -> None:
    with Program("serve", "--metrics", where) as program:
        assert program.wait() == 2
        assert "is not an address to listen on" in program.errors


def test_serve_port_in_use_exits_with_3(relay: str) -> None:
    port = relay.rpartition(":")[2].partition("/")[0]
    with Program("serve", "--port", port) as program:
        assert program.wait() == 3
        assert "in use" in program.errors
        assert "Traceback" not in program.errors


def test_metrics_port_in_use_exits_without_listening(relay: str) -> None:
    port = relay.rpartition(":")[2].partition("/")[0]
    with Program("serve", "--port", "0", "--metrics", port) as program:
        assert program.wait() == 3
        assert "for --metrics: the port is in use" in program.errors and "try --metrics 0" in program.errors
        assert "listening" not in program.errors + "".join(program.text)


def test_serve_json_log_goes_to_stderr_only() -> None:
    with Program("serve", "--port", "0", "--json", "--log-format", "json") as program:
        program.expect("listening")
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        lines = [json.loads(line) for line in program.errors.splitlines()]
    assert lines
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    assert program.text == []


def test_json_log_leaves_no_line_that_is_not_json() -> None:
    """The standard output and error of a service end up in one journal."""
    with Program("serve", "--port", "0", "--log-format", "json") as program:
        url = program.expect("listening")["url"]
        with Program("serve", "--port", url.split(":")[2].removesuffix("/ws"), "--log-format", "json") as second:
            assert second.wait() == 3
            assert second.names() == ["error"] and second.text == []
            (line,) = second.errors.splitlines()
            assert json.loads(line)["level"] == "error" and "in use" in json.loads(line)["message"]
        program.send(signal.SIGTERM)
        assert program.wait() == 0
        assert program.text == []


@pytest.mark.parametrize("args", [["--port", "x"], ["--nope"], ["--host", "0.0.0.0"], ["--config", "/nowhere.toml"]])
def test_json_log_has_usage_errors(args: list[str]) -> None:
    with Program("serve", "--log-format", "json", *args) as program:
        assert program.wait() == 2
        (line,) = program.errors.splitlines()
        assert json.loads(line)["level"] == "error"


def test_json_log_of_a_configuration_file_has_its_errors(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text('[serve]\nlog-format = "json"\nport = 99999\n')
    with Program("serve", "--config", str(tmp_path / "relay.toml")) as program:
        assert program.wait() == 2
        (line,) = program.errors.splitlines()
        assert "99999" in json.loads(line)["message"]


def test_serve_on_all_addresses_prints_where_the_token_goes() -> None:
    command = [sys.executable, "-m", "peer", "serve", "--port", "0", "--host", "0.0.0.0", "--token", "hush"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = list(iter_until(process.stdout, "TOKEN stands for"))
        process.terminate()
        assert process.wait(20) == 0
    assert not any("0.0.0.0" in line or "hush" in line for line in lines)
    assert any(line.startswith("page at http://") and line.endswith("/#token=TOKEN\n") for line in lines)


def iter_until(lines: Iterable[str], last: str) -> Iterator[str]:
    """``lines`` up to the one that begins with ``last``."""
    for line in lines:
        yield line
        if line.startswith(last):
            return
