"""Signals, errors that become exit codes, and readers of standard output that stall or leave."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys

import pytest

from peer import errors
from peer.cli import entry
from peer.cli.output import Output

STUBBORN = """
import asyncio, sys
from peer.cli.output import Output
from peer.cli.entry import run

async def body():
    print("running", flush=True)
    try:
        await asyncio.sleep(600)
    finally:
        print("leaving", flush=True)
        await asyncio.sleep({leaving})
        print("left", flush=True)

sys.exit(run(body, Output(as_json=False), on_sigterm={on_sigterm}))
"""


def stubborn(leaving: float, on_sigterm: int = 130) -> subprocess.Popen[str]:
    code = STUBBORN.format(leaving=leaving, on_sigterm=on_sigterm)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "running\n"
    return process


@pytest.mark.parametrize(
    ("number", "on_sigterm", "code"),
    [
        (signal.SIGINT, 130, 130),
        (signal.SIGTERM, 130, 130),
        (signal.SIGHUP, 130, 130),
        (signal.SIGINT, 0, 130),
        (signal.SIGTERM, 0, 0),
        (signal.SIGHUP, 0, 0),
    ],
)
def test_first_signal_lets_the_command_clean_up(number: signal.Signals, on_sigterm: int, code: int) -> None:
    with stubborn(0, on_sigterm) as process:
        process.send_signal(number)
        assert process.wait(20) == code
        assert process.stdout is not None
        assert process.stdout.read() == "leaving\nleft\n"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_exits_immediately(second: signal.Signals) -> None:
    with stubborn(600) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "leaving\n"
        process.send_signal(second)
        assert process.wait(20) == 130
        assert process.stdout.read() == ""


async def _raise(error: BaseException) -> int:
    async with asyncio.TaskGroup():
        raise error


def test_peer_error_becomes_one_line_and_an_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    error = errors.ServerUnreachable("ws://r/ws", "refused")
    assert entry.run(lambda: _raise(error), Output(as_json=True)) == 3
    out, err = capsys.readouterr()
    assert '"code": "server-unreachable"' in out
    assert err == f"peer: {error}\n"


def test_other_exception_is_not_caught() -> None:
    with pytest.raises(ExceptionGroup):
        entry.run(lambda: _raise(ZeroDivisionError()), Output(as_json=False))


def test_other_exception_beside_a_peer_error_is_not_caught() -> None:
    both = ExceptionGroup("both", [errors.PeerError("no"), ZeroDivisionError()])
    with pytest.raises(ExceptionGroup):
        entry.run(lambda: _raise(both), Output(as_json=False))


TALKER = """
import asyncio, sys
from peer import events
from peer.cli.output import Output
from peer.cli.entry import run

out = Output(as_json=True)

async def body():
    try:
        for number in range(int(sys.argv[1])):
            out.event(events.PeerJoined(peer=f"p{number}"))
            if number % 100 == 0:
                await asyncio.sleep(0)
        sys.stderr.write("said\\n")
        await asyncio.sleep(600)
    finally:
        out.event(events.PeerLeft(peer="last"))

sys.exit(run(body, out))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_blocked_reader_does_not_block_the_command(number: signal.Signals) -> None:
    with talker(20000, subprocess.PIPE) as process:  # that is more than a pipe holds
        assert process.stderr is not None
        assert "dropping lines" in process.stderr.readline()
        assert process.stderr.readline() == "said\n"
        process.send_signal(number)
        assert process.wait(20) == 130
        assert "lines of output were lost" in process.stderr.read()


def test_closed_stdout_ends_an_idle_command() -> None:
    read, write = os.pipe()
    with talker(1, write) as process:
        os.close(write)
        os.close(read)
        assert process.wait(20) == 130


def test_closed_stdout_ends_a_command_that_writes_nothing() -> None:
    read, write = os.pipe()
    with talker(0, write) as process:
        os.close(write)
        assert process.stderr is not None
        assert process.stderr.readline() == "said\n"
        os.close(read)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""


def test_stdout_on_a_full_disk_does_not_end_the_command() -> None:
    with open("/dev/full", "wb") as full, talker(1, full.fileno()) as process:
        assert process.stderr is not None
        lines = {process.stderr.readline(), process.stderr.readline()}
        assert lines == {
            "said\n",
            "cannot write to standard output: No space left on device; continuing without it\n",
        }
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
        assert process.stderr.read() == ""


def test_sighup_stays_ignored_under_nohup() -> None:
    ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited by the process
    try:
        process = stubborn(0)
    finally:
        signal.signal(signal.SIGHUP, ignored)
    with process:
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 130
        assert process.stdout is not None and process.stdout.read() == "leaving\nleft\n"


@pytest.mark.parametrize("args", [["--help"], ["call", "--help"], ["--version"]])
def test_help_on_a_full_disk_is_one_line_without_a_traceback(args: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "peer", *args]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 1
    assert result.stderr == "peer: cannot write to standard output: No space left on device\n"


def talker(lines: int, stdout: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TALKER, str(lines)], stdout=stdout, stderr=subprocess.PIPE, text=True
    )


def test_text_outside_the_locale_encoding_is_escaped() -> None:
    code = "import sys; from peer.cli import entry; entry.start(['--version']); print('Bj\u00f6rn')"
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    assert result.stdout.endswith("Bj\\xf6rn\n"), result.stderr


def test_a_bug_is_one_json_line_where_logs_are_json() -> None:
    code = "from peer.cli import entry, logs, main; logs.configure('json', 0); entry.start = lambda _: 1 / 0; main()"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert process.returncode == 1
    body = json.loads(process.stderr)
    assert body["level"] == "critical" and "ZeroDivisionError" in body["traceback"]
