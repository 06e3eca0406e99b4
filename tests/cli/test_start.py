"""How ``peer`` starts: fast, and without what it does not need yet."""

from __future__ import annotations

import resource
import subprocess
import sys
from importlib import import_module

import click
import pytest

from peer.cli.root import COMMANDS

HEAVY = ("aiortc", "aioice", "av", "cv2", "numpy", "websockets", "cryptography", "asyncio")

LIMIT = 0.3
"""Seconds for ``peer --help``. Measured as processor time, which is what it takes on an idle machine: it waits for
nothing, and other tests run beside."""


def peer(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "peer", *args], capture_output=True, text=True, timeout=60, env=env)


def test_help_is_fast() -> None:
    peer("--help")  # compiles what was never run
    times = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert peer("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert min(times) < LIMIT, times


@pytest.mark.parametrize("args", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    code = f"""
import sys
from peer.cli.root import cli
cli.main({args!r}, standalone_mode=False)
print("LOADED", *sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    loaded = result.stdout.rpartition("LOADED")[2].split()
    if args == ["--help"]:
        assert loaded == []
    else:
        assert set(loaded) <= {"asyncio"}, result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_command_list_matches_each_commands_help(name: str) -> None:
    command: click.Command = import_module(f"peer.cli.commands.{name}").command
    assert command.name == name
    assert (command.help or "").partition("\n\n")[0].replace("\n", " ").startswith(COMMANDS[name].rstrip("."))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help_and_a_variable(name: str) -> None:
    command: click.Command = import_module(f"peer.cli.commands.{name}").command
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.name
            assert param.envvar, param.name


def test_unknown_command_error_suggests_the_closest() -> None:
    result = peer("sever")
    assert result.returncode == 2
    assert "Did you mean serve?" in result.stderr
    assert result.stdout == ""


def test_peer_without_command_prints_help() -> None:
    result = peer()
    assert "Commands:" in result.stdout + result.stderr
