"""The relay as a process: signals, imports, and errors when it cannot start."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from server.errors import CannotListen
from server.relay import Relay, RelayConfig
from server.run import serve

from .wire import DEADLINE, ROOT, Raw, frame, process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_closes_clients_with_1001_and_exits(number: signal.Signals) -> None:
    with process() as server:
        a, b = await Raw.join(server.port, "A"), await Raw.join(server.port, "B", key="k")
        assert (await a.get())["type"] == "peer-joined"
        server.process.send_signal(number)
        for raw in (a, b):
            opcode, payload = await raw.frame()
            assert (opcode, int.from_bytes(payload[:2])) == (8, 1001) and payload[2:]
            raw.writer.write(frame(8, payload))
            assert await raw.rest() == b""
            await raw.end()
        assert await asyncio.to_thread(server.process.wait, DEADLINE) == 0
        assert server.process.stderr is not None and server.process.stderr.read() == ""


async def test_second_signal_exits_without_waiting() -> None:
    with process() as server:
        silent = await Raw.join(server.port, "A")
        server.process.send_signal(signal.SIGTERM)
        assert await silent.closed() == 1001
        server.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(server.process.wait, 3) == -signal.SIGTERM
        await silent.end()


async def test_port_in_use_gives_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port}: the port is in use"):
            await Relay(RelayConfig(port=port)).start()


@pytest.mark.parametrize("host", ["192.0.2.1", "no..host"])
async def test_foreign_address_gives_one_clear_line(host: str) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on {host}:0: .*--host"):
        await Relay(RelayConfig(host=host, port=0, open=True)).start()


@pytest.mark.parametrize(
    "options",
    [{"port": 70_000}, {"grace": -1}, {"ping_interval": 0}, {"max_send_queue": 5}, {"join_timeout": float("nan")}],
)
def test_configuration_out_of_range_raises(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        RelayConfig(**options)  # type: ignore[arg-type]


async def test_stop_without_start_or_twice_does_nothing() -> None:
    relay = Relay(RelayConfig(port=0))
    await relay.stop()
    await relay.start()
    await relay.stop()
    await relay.stop()


def test_module_runs_and_reports_why_it_cannot() -> None:
    with ExitStack() as stack:
        with suppress(OSError):  # in use already, which is as good
            stack.enter_context(socket.create_server(("127.0.0.1", 8080)))
        done = subprocess.run(
            [sys.executable, "-m", "server"], capture_output=True, text=True, cwd=ROOT, timeout=DEADLINE
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "8080: the port is in use" in done.stderr


def test_importing_the_relay_loads_no_media_engine() -> None:
    code = "import sys, server.relay; print(sorted(m for m in sys.modules if m.split('.')[0] in " + (
        "('peer', 'aiortc', 'aioice', 'av', 'cv2', 'numpy')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    light = ("errors", "signaling", "signaling.ice_servers", "signaling.message_json", "signaling.messages")
    assert done.stdout.strip() == str(["peer", *(f"peer.{name}" for name in light)])


def test_relay_raises_the_limit_of_open_files() -> None:
    with process() as server:
        limits = Path(f"/proc/{server.process.pid}/limits").read_text()
        soft, hard = limits.split("Max open files")[1].split()[:2]
        assert soft == hard


async def test_bug_in_the_cluster_link_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = []
    stop = Relay.stop

    async def failed(self: Relay) -> None:
        raise ZeroDivisionError

    async def record(self: Relay) -> None:
        stopped.append(self)
        await stop(self)

    monkeypatch.setattr(Relay, "wait_failed", failed)
    monkeypatch.setattr(Relay, "stop", record)
    with pytest.raises(ExceptionGroup) as raised:
        await serve(RelayConfig(port=0))
    assert raised.group_contains(ZeroDivisionError) and len(stopped) == 1


async def test_relay_without_a_cluster_never_fails() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await Relay(RelayConfig(port=0)).wait_failed()
