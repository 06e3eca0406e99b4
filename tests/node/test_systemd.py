"""What systemd hears of ``peer serve`` and ``peer run``, at a socket of ours in the place of its own."""

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

    def hears(self) -> list[str]:
        """The assignments of the next datagram."""
        self._socket.settimeout(DEADLINE)
        return self._socket.recv(4096).decode().split("\n")

    def until(self, assignment: str) -> list[str]:
        """Datagrams up to one with ``assignment``; that one."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            if assignment in (found := self.hears()):
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


def test_the_relay_is_ready_when_it_listens_and_tells_of_a_reload_and_of_its_end(systemd: Supervisor) -> None:
    with Program("serve", "--port", "0", "--json") as serve:
        ready = ["READY=1", f"STATUS=listening at {serve.expect('listening')['url']}"]
        assert systemd.hears() == ready
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        serve.send(signal.SIGHUP)
        first, moment = systemd.hears()
        assert first == "RELOADING=1" and int(moment.removeprefix("MONOTONIC_USEC=")) >= before
        assert systemd.hears() == ready
        serve.send(signal.SIGTERM)
        assert systemd.hears() == ["STOPPING=1"]
        assert serve.wait() == 0


def test_a_relay_that_cannot_listen_is_never_ready(systemd: Supervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with Program("serve", "--port", str(taken.getsockname()[1])) as serve:
            assert serve.wait() == 3
    notify.stopping()
    assert systemd.hears() == ["STOPPING=1"]  # ours: it had said nothing


def test_a_node_is_ready_without_its_relay_and_tells_where_it_is(systemd: Supervisor) -> None:
    with Program("serve", "--port", "0", "--json") as serve:
        url = serve.expect("listening")["url"]
        systemd.until("READY=1")
        with Program("run", "--id", "door", "--server", url, "--json", *QUIET) as door:
            assert systemd.hears() == ["READY=1", "STATUS=looking for the relay"]
            systemd.until("STATUS=in the room as door")
            serve.send(signal.SIGTERM)
            assert serve.wait() == 0
            systemd.until("STATUS=the relay is away; calls go on")
            door.send(signal.SIGTERM)
            systemd.until("STOPPING=1")
            assert door.wait() == 130


NOWHERE = ("--server", "ws://127.0.0.1:9/ws")


@pytest.mark.parametrize(
    "command", [("serve", "--port", "0"), ("run", "--id", "door", *NOWHERE, *QUIET)], ids=lambda c: c[0]
)
def test_the_watchdog_is_fed_by_the_event_loop_and_starves_with_it(
    systemd: Supervisor, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with Program(*command) as program:
        systemd.until("READY=1")
        for _ in range(3):
            systemd.until("WATCHDOG=1")
        program.send(signal.SIGTERM)
        systemd.until("STOPPING=1")
        program.wait()


async def test_a_loop_that_stands_still_says_nothing(systemd: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    notify.keep_alive(asyncio.get_running_loop())
    assert systemd.hears() == ["WATCHDOG=1"]
    systemd._socket.settimeout(0.1)
    with pytest.raises(TimeoutError):  # blocks the loop, as a bug would
        systemd._socket.recv(4096)
    await asyncio.to_thread(systemd.until, "WATCHDOG=1")


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("30000000", None, 15.0),
        ("30000000", "ours", 15.0),
        ("30000000", "1", None),  # meant for our parent
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
        ("30000000", "me", None),
        (None, None, None),
    ],
)
def test_the_watchdog_is_fed_twice_in_its_time_and_only_if_it_is_ours(
    monkeypatch: pytest.MonkeyPatch, usec: str | None, pid: str | None, seconds: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value.replace("ours", str(os.getpid())))
    assert notify._half_of_watchdog() == seconds


def test_a_socket_without_a_file_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    supervisor = Supervisor(f"\0{tmp_path}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{tmp_path}")
    notify.status("two\nlines")
    assert supervisor.hears() == ["STATUS=two lines"]
    supervisor.close()


@pytest.mark.parametrize("where", [None, "", "/nowhere/at/all", "vsock:2:1234", "x" * 200, "/" + "x" * 200])
def test_nobody_who_listens_is_no_error(monkeypatch: pytest.MonkeyPatch, where: str | None) -> None:
    if where is None:
        monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    else:
        monkeypatch.setenv("NOTIFY_SOCKET", where)
    notify.ready("here")
