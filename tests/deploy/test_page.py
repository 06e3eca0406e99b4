"""docs/deployment.md, quickly and without root: its shell blocks are run in order, with another folder for /etc.

``page_on_debian.py`` runs the same blocks on a lean Debian with a real systemd. Here, other programs stand in for the
ones that would change this machine: apt-get, systemctl, journalctl and git note their arguments and do nothing else;
install, chgrp and chown leave owners alone; curl and peer are not run. What the blocks leave behind is checked by
the programs that will read it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from peer.cli.command import known_options

from .page import ROOT, block, blocks

PROJECT = "/opt/headless-webrtc-peer"

NOTED = '#!/bin/sh\necho "${0##*/} $*" >>"$NOTES"\n'
"""Program that only notes how it was called."""

INSTALL = r"""#!/usr/bin/env python3
import os, sys

words, owner = [], ("-g", "-o")
for before, word in zip([""] + sys.argv[1:], sys.argv[1:]):
    if word not in owner and before not in owner:
        words.append(word)
os.execv("/usr/bin/install", ["install", *words])
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder with ``etc`` and the programs above in ``bin``."""
    for name in ("bin", "etc/caddy", "etc/systemd/system"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("apt-get", "systemctl", "curl", "chgrp", "chown", "systemd-sysusers"):
        (tmp_path / "bin" / name).write_text(NOTED)
    (tmp_path / "bin" / "install").write_text(INSTALL)
    for program in (tmp_path / "bin").iterdir():
        program.chmod(0o755)
    return tmp_path


def run(machine: Path, script: str) -> list[str]:
    """Run ``script`` with its paths inside of ``machine``. Returns the commands that were noted."""
    script = script.replace(PROJECT, str(ROOT)).replace("/etc/", f"{machine}/etc/").replace("./setup.sh", "true")
    notes = machine / "notes"
    notes.write_text("")
    env = os.environ | {"PATH": f"{machine}/bin:{os.environ['PATH']}", "NOTES": str(notes)}
    done = subprocess.run(["bash", "-e", "-c", script], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return notes.read_text().replace(str(machine), "").splitlines()


def test_installation_blocks_leave_working_files(machine: Path) -> None:
    etc = machine / "etc"
    noted = run(machine, block("apt-get install"))
    assert "apt-get install -y caddy coturn curl jq openssl" in noted
    assert noted.index("systemd-sysusers ") < noted.index("systemctl enable --now peer-serve")
    assert (etc / "sysusers.d" / "peer.conf").exists()
    secrets = [(etc / "peer" / name).read_text() for name in ("relay.token", "turn.secret")]
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", secret) for secret in secrets) and len(set(secrets)) == 2
    assert {path.stat().st_mode & 0o777 for path in (etc / "peer").iterdir()} == {0o640}
    assert tomllib.loads((etc / "peer" / "relay.toml").read_text())["serve"]["log-format"] == "json"

    assert run(machine, block("reload caddy")) == ["systemctl reload caddy"]
    sites = subprocess.check_output(
        ["caddy", "adapt", "--config", etc / "caddy" / "Caddyfile", "--adapter", "caddyfile"],
        stderr=subprocess.DEVNULL,
    )
    assert {"relay.example", "turn.example"} == set(re.findall(r'"host":\["([^"]*)"\]', sites.decode()))

    noted = run(machine, block("turnserver.conf >"))
    order = ["daemon-reload", "start turn-certificate", "enable --now turn-certificate.timer", "restart coturn"]
    assert [line for line in noted if "systemctl" in line] == [f"systemctl {words}" for words in order]
    conf = (etc / "turnserver.conf").read_text()
    assert f"static-auth-secret={secrets[1]}" in conf and "<" not in conf
    assert {"peer-serve.service", "turn-certificate.service", "turn-certificate.timer"} == {
        path.name for path in (etc / "systemd" / "system").iterdir()
    }


def test_own_names_are_set_only_in_the_first_lines(machine: Path) -> None:
    for words in ("apt-get install", "reload caddy", "turnserver.conf >"):
        names, commands = block(words).split("\n", 1)
        own = names.replace("turn.example", "turn.own.test").replace("relay.example", "relay.own.test")
        run(machine, f"{own}\n{commands}")
    files = ["peer/relay.toml", "caddy/Caddyfile", "turnserver.conf", "systemd/system/turn-certificate.service"]
    for name in files:
        text = (machine / "etc" / name).read_text()
        assert "own.test" in text
        assert not re.search(r"(relay|turn)\.example", text), name


def test_relay_with_installed_configuration_writes_only_json(machine: Path) -> None:
    run(machine, block("apt-get install"))
    config = machine / "etc" / "peer" / "relay.toml"
    text = config.read_text().replace("/etc/peer/", f"{config.parent}/").replace('metrics = "9100"', 'metrics = "0"')
    config.write_text(text)
    command = [sys.executable, "-m", "peer", "serve", "--config", config, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as relay:
        assert relay.stdout is not None
        lines = [relay.stdout.readline()]
        while "pages" not in lines[-1]:  # the event; the log has a line about listening too
            lines.append(relay.stdout.readline())
        relay.terminate()
        lines += relay.stdout
        assert relay.wait() == 0
    assert all(json.loads(line)["event"] for line in lines)


def test_every_block_is_run_by_one_of_the_two_tests() -> None:
    words = (
        "apt-get install",
        "reload caddy",
        "turnserver.conf >",
        "peer run",
        "docker compose",
        "git pull",
        "journalctl",
    )
    assert [block(word) for word in words] == blocks()


def test_peer_commands_of_the_page_have_known_options() -> None:
    for command, options in re.findall(r"^peer (\w+) (.*)$", block("peer run"), re.MULTILINE):
        assert {flag.removeprefix("--") for flag in re.findall(r"--[\w-]+", options)} <= known_options()[command]


def test_certificate_units_are_understood_by_systemd(tmp_path: Path) -> None:
    units = sorted((ROOT / "examples" / "deploy").glob("turn-certificate.*"))
    assert [unit.suffix for unit in units] == [".service", ".timer"]
    for unit in units:
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROJECT, str(ROOT)))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / unit.name) for unit in units)],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (verified.returncode, verified.stdout + verified.stderr) == (0, "")


@pytest.mark.parametrize("kept", ["caddy", "certbot"])
def test_turn_certificate_copies_the_newest_and_tells_coturn(machine: Path, kept: str) -> None:
    name = "turn.example"
    if kept == "caddy":
        folder = machine / "caddy" / "acme-v02.api.letsencrypt.org-directory" / name
        files = {"fullchain.pem": folder / f"{name}.crt", "privkey.pem": folder / f"{name}.key"}
    else:
        folder = machine / "certbot" / name
        files = {"fullchain.pem": folder / "fullchain.pem", "privkey.pem": folder / "privkey.pem"}
    folder.mkdir(parents=True)
    script = (ROOT / "examples" / "deploy" / "turn-certificate").read_text()
    script = re.sub(r"^caddy=\S*", f"caddy={machine}/caddy", script, flags=re.MULTILINE)
    script = re.sub(r"^certbot=\S*", f"certbot={machine}/certbot", script, flags=re.MULTILINE)
    script = script.replace("${1:?usage: turn-certificate NAME}", name)
    reload = "systemctl kill --signal=USR2 coturn"
    for content, reloaded in (("first", True), ("first", False), ("second", True)):
        for path in files.values():
            path.write_text(f"{content} {path.suffix}")
        assert (reload in run(machine, script)) is reloaded
        for copy, path in files.items():
            assert (machine / "etc" / "coturn" / copy).read_text() == path.read_text()
            assert (machine / "etc" / "coturn" / copy).stat().st_mode & 0o777 == 0o640
