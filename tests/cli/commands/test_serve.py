"""``peer serve``, as a process: its addresses, its metrics, its log."""

from __future__ import annotations

import json
import signal
import urllib.request

import pytest

from tests.cli.program import Program


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
