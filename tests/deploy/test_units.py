"""The units, by systemd's own tools; what they set, by what the programs need."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

from peer.cli.command import known_options
from peer.cli.exit_codes import INTERRUPTED, USAGE
from server.config import RelayConfig
from server.memory_estimate import max_memory
from server.transport.listener import RESERVED_DESCRIPTORS

from .front import EXAMPLES

UNITS = {"serve": EXAMPLES / "peer-serve.service", "run": EXAMPLES.parent / "peer-run.service"}
COMPOSE_MEMORY = re.findall(r"^  mem_limit: (.*)$", (EXAMPLES / "compose.yaml").read_text(), re.MULTILINE)
PROGRAM = "/opt/headless-webrtc-peer/.venv/bin/peer"


def values(unit: Path, key: str) -> list[str]:
    """What ``unit`` says of ``key``, in order."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def seconds(unit: Path, key: str) -> int:
    (value,) = values(unit, key)
    return int(value)


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    installed = tmp_path / unit.name
    installed.write_text(unit.read_text().replace(PROGRAM, sys.executable))  # it has to exist
    told = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(installed)], capture_output=True, text=True, timeout=30
    )
    assert (told.returncode, told.stdout + told.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS)
def test_systemd_finds_little_that_the_unit_may_do(unit: Path) -> None:
    """2.0 of 10, where a unit that says nothing has 9.6."""
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize("name", UNITS)
def test_the_command_line_is_one(name: str) -> None:
    (line,) = values(UNITS[name], "ExecStart")
    program, command, *args = line.split()
    assert (program, command) == (PROGRAM, name)
    made: click.Command = import_module(f"peer.cli.commands.{name}").command
    known = {
        flag
        for param in made.params
        if isinstance(param, click.Option)
        for flag in (*param.opts, *param.secondary_opts)
    }
    assert {arg for arg in args if arg.startswith("-")} <= known
    for setting in values(UNITS[name], "Environment"):
        variable, _, value = setting.partition("=")
        option = variable.removeprefix("PEER_").lower().replace("_", "-")
        assert value and (variable == "XDG_STATE_HOME" or option in known_options()[name])


def test_the_configuration_of_the_relay_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real command, up to its start; the files that it names are elsewhere here."""
    text = (EXAMPLES / "relay.toml").read_text()
    for name, content in (("relay.token", "secret"), ("turn.secret", "hush" * 8)):
        (tmp_path / name).write_text(content)
        assert f"/etc/peer/{name}" in text
    path = tmp_path / "relay.toml"
    path.write_text(text.replace("/etc/peer/", f"{tmp_path}/"))
    assert _config(monkeypatch, "--config", str(path)).trust_proxies == ("127.0.0.1", "::1")
    with_its_own_tls = re.sub(r"^# (tls-|allow-|cluster)", r"\1", text, flags=re.MULTILINE)
    assert set(tomllib.loads(with_its_own_tls)["serve"]) <= known_options()["serve"]


def _config(monkeypatch: pytest.MonkeyPatch, *args: str) -> RelayConfig:
    """What ``peer serve ARGS`` would run with."""
    from peer.cli import entry
    from server import relay

    found: list[RelayConfig] = []

    class Seen(Exception):
        pass

    def look(config: RelayConfig) -> None:
        found.append(config)
        raise Seen

    monkeypatch.setattr(relay, "Relay", look)
    with pytest.raises(Seen):
        entry.start(["serve", *args])
    return found[0]


def test_how_a_program_ends_is_what_its_unit_expects() -> None:
    for unit in UNITS.values():
        assert values(unit, "RestartPreventExitStatus") == [str(USAGE)] and values(unit, "Restart") == ["always"]
        assert values(unit, "StartLimitIntervalSec") == ["0"] and values(unit, "Type") == ["notify"]
    assert values(UNITS["run"], "SuccessExitStatus") == [str(INTERRUPTED)]
    assert seconds(UNITS["serve"], "TimeoutStopSec") > RelayConfig().close_timeout
    assert seconds(UNITS["run"], "TimeoutStopSec") > 5 + 20  # calls._CLOSING, and a recorder's most


def test_what_the_relay_reads_again_is_not_a_copy() -> None:
    """LoadCredential= copies at the start; at SIGHUP the relay would read the same again, and say that it is new."""
    assert values(UNITS["serve"], "LoadCredential") == []
    assert any("kill -HUP" in line for line in values(UNITS["serve"], "ExecReload"))
    assert values(UNITS["run"], "ExecReload") == []


def test_process_metrics_and_sound_cards_can_be_read() -> None:
    """Both are in /proc beside the processes."""
    for unit in UNITS.values():
        assert values(unit, "ProcSubset") == []


def test_unit_limits_cover_the_descriptors_and_memory_of_a_relay() -> None:
    config = RelayConfig()
    assert seconds(UNITS["serve"], "LimitNOFILE") >= config.max_connections + RESERVED_DESCRIPTORS
    assert values(UNITS["serve"], "MemoryMax") == ["1G"] and COMPOSE_MEMORY == ["1g"]
    assert max_memory(config, config.max_connections) < 1024**3
