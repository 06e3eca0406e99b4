"""Notifications of ``peer serve`` and ``peer run``, received by a socket in the place of systemd's."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from peer.node import systemd as notify
from tests.cli.program import QUIET, Program

DEADLINE = 20.0


class Supervisor:
    """The other end of ``NOTIFY_SOCKET``."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)

    def receive(self) -> list[str]:
        """The assignments of the next datagram."""
        self._socket.settimeout(DEADLINE)
        return self._socket.recv(4096).decode().split("\n")

    def receive_until(self, assignment: str) -> list[str]:
        """The next datagram with ``assignment``; skips those before it."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if assignment in (found := self.receive()):
                return found
        raise AssertionError(f"no {assignment}")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    supervisor = Supervisor(str(tmp_path / "notify"))
    yield supervisor
    supervisor.close()


def test_relay_reports_ready_reload_and_stop(systemd: Supervisor) -> None:
    with Program("serve", "--port", "0", "--json") as serve:
        ready = ["READY=1", f"STATUS=listening at {serve.expect('listening')['url']}"]
        assert systemd.receive() == ready
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        serve.send(signal.SIGHUP)
        first, timestamp = systemd.receive()
        assert first == "RELOADING=1" and int(timestamp.removeprefix("MONOTONIC_USEC=")) >= before
        assert systemd.receive() == ready
        serve.send(signal.SIGTERM)
        assert systemd.receive() == ["STOPPING=1"]
        assert serve.wait() == 0


def test_relay_that_cannot_listen_is_never_ready(systemd: Supervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with Program("serve", "--port", str(taken.getsockname()[1])) as serve:
            assert serve.wait() == 3
    notify.stopping()
    assert systemd.receive() == ["STOPPING=1"]  # sent by this test: the relay sent nothing


def test_node_is_ready_before_joining_and_reports_status(systemd: Supervisor) -> None:
    with Program("serve", "--port", "0", "--json") as serve:
        url = serve.expect("listening")["url"]
        systemd.receive_until("READY=1")
        with Program("run", "--id", "door", "--server", url, "--json", *QUIET) as door:
            assert systemd.receive() == ["READY=1", "STATUS=connecting to the relay"]
            systemd.receive_until("STATUS=joined as door")
            serve.send(signal.SIGTERM)
            assert serve.wait() == 0
            systemd.receive_until("STATUS=connection to the relay lost; calls continue")
            door.send(signal.SIGTERM)
            systemd.receive_until("STOPPING=1")
            assert door.wait() == 130


NOWHERE = ("--server", "ws://127.0.0.1:9/ws")


@pytest.mark.parametrize(
    "command", [("serve", "--port", "0"), ("run", "--id", "door", *NOWHERE, *QUIET)], ids=lambda c: c[0]
)
def test_event_loop_pings_the_watchdog(
    systemd: Supervisor, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with Program(*command) as program:
        systemd.receive_until("READY=1")
        for _ in range(3):
            systemd.receive_until("WATCHDOG=1")
        program.send(signal.SIGTERM)
        systemd.receive_until("STOPPING=1")
        program.wait()


async def test_blocked_event_loop_does_not_ping_the_watchdog(
    systemd: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    notify.start_watchdog(asyncio.get_running_loop())
    assert systemd.receive() == ["WATCHDOG=1"]
    systemd._socket.settimeout(0.1)
    with pytest.raises(TimeoutError):  # blocks the event loop, as a bug would
        systemd._socket.recv(4096)
    await asyncio.to_thread(systemd.receive_until, "WATCHDOG=1")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 15.0),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),  # meant for another process
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
        ("30000000", "me", None),
        (None, None, None),
    ],
)
def test_watchdog_interval_is_half_of_watchdog_usec(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, seconds: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value.replace("ours", str(os.getpid())))
    assert notify._watchdog_interval() == seconds


def test_abstract_socket_receives_one_line_of_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    supervisor = Supervisor(f"\0{tmp_path}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
    notify.status("two\nlines")
    assert supervisor.receive() == ["STATUS=two lines"]
    supervisor.close()


@pytest.mark.parametrize("where", [None, "", "/nowhere/at/all", "vsock:2:1234", "x" * 200, "/" + "x" * 200])
def test_missing_or_invalid_socket_is_no_error(monkeypatch: pytest.MonkeyPatch, where: str | None) -> None:
    if where is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", where)
    notify.ready("here")
