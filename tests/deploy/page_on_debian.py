"""docs/deployment.md, run literally and block by block on a lean Debian with a real systemd.

Too slow for every run, and for root only (debian.py says what it needs). By its name it is run only when it is asked
for; ``test_page.py`` is the quick part:

    .venv/bin/python -m pytest tests/deploy/page_on_debian.py

What is different from a machine on the internet:

- ``relay.example`` and ``turn.example`` are in /etc/hosts, and the other machine is this one.
- Caddy is its own certificate authority, in the place of Let's Encrypt, and the machine trusts it.
- The repository is cloned from a copy on the same machine.
- The block for containers is not run.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .debian import Debian, running
from .page import ROOT, block, blocks

pytestmark = pytest.mark.timeout(1800)

PROJECT = "/opt/headless-webrtc-peer"
PEER = f"PATH=$PATH:{PROJECT}/.venv/bin\n"
AUTHORITY = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"


@pytest.fixture(params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Debian]:
    with running(request.param) as machine:
        _repository(machine, tmp_path / "project")
        with (machine.root / "etc" / "hosts").open("a") as hosts:
            hosts.write("127.0.0.1 localhost relay.example turn.example\n")
        yield machine


def _repository(machine: Debian, copy: Path) -> None:
    """What is in this working tree, as a repository with a remote on the machine, cloned to where the page has it."""
    names = subprocess.check_output(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT)
    present = b"\0".join(name for name in names.split(b"\0") if name and (ROOT / name.decode()).exists())
    copy.mkdir()
    archive = subprocess.check_output(["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=present)
    subprocess.run(["tar", "-x", "--no-same-owner"], cwd=copy, input=archive, check=True)
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=copy, check=True)
    subprocess.run(["git", "add", "-A"], cwd=copy, check=True)
    subprocess.run(["git", *identity, "commit", "-qm", "test: the working tree"], cwd=copy, check=True)
    subprocess.run(["git", "clone", "-q", "--bare", copy, machine.root / "srv" / "project.git"], check=True)
    machine.run(f"git clone -q /srv/project.git {PROJECT}")


def test_the_page_works_as_written(machine: Debian) -> None:
    assert len(blocks()) == 7 and "docker compose" in blocks()[4]
    assert machine.run("! command -v curl; ! command -v ps; ! test -e /etc/sysusers.d") == ""

    installed = machine.run(block("apt-get install"))
    assert "active (running)" in installed and installed.endswith('{"status": "ok"}\n'), installed
    machine.run("systemctl reload peer-serve && systemctl is-active peer-serve")

    caddyfile = machine.root / PROJECT.removeprefix("/") / "examples" / "deploy" / "Caddyfile"
    caddyfile.write_text("{\n\tlocal_certs\n}\n" + caddyfile.read_text())
    machine.run(block("reload caddy"))
    machine.run(
        f"until test -e {AUTHORITY}; do sleep 0.1; done; cat {AUTHORITY} >>/etc/ssl/certs/ca-certificates.crt"
    )
    machine.run("until curl -sSf https://relay.example/ | grep -q '</html>'; do sleep 0.5; done")

    machine.run(block("turnserver.conf >"))
    assert "turn-certificate.timer" in machine.run("systemctl list-timers --no-pager")
    hello = (
        "openssl s_client -connect turn.example:5349 -verify_hostname turn.example -verify_return_error </dev/null"
    )
    assert "Verify return code: 0 (ok)" in machine.run(f"until {hello} 2>&1; do sleep 0.5; done")

    machine.run("cp /etc/peer/relay.token .")
    node = machine.start(PEER + block("peer run"))
    _until(machine, "peer list --server wss://relay.example/ws --token-file relay.token", prints="door")
    machine.run(r"kill -INT $(grep -lzx door /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3)")
    node.communicate(timeout=30)

    told = machine.run(PEER + "peer list --server wss://relay.example/ws --token wrong", code=3)
    assert "unauthorized" in told, told
    machine.run("journalctl --sync")
    refused = machine.run(block("journalctl"))
    journal = "journalctl _SYSTEMD_UNIT=peer-serve.service -o cat"
    assert [json.loads(line)["event"] for line in refused.splitlines()] == ["refused"], machine.run(journal)

    machine.run(block("git pull"))
    machine.run("systemctl is-active peer-serve")
    for line in machine.run(journal).splitlines():
        assert isinstance(json.loads(line), dict), line


def _until(machine: Debian, command: str, *, prints: str) -> None:
    deadline = time.monotonic() + 60
    while prints not in machine.run(PEER + command):
        assert time.monotonic() < deadline
        time.sleep(0.5)
