"""The Compose files, without a container engine: the options exist, and the files match each other."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import re
import subprocess
import sys
import tomllib
from contextlib import AsyncExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from peer.cli.command import known_options
from peer.signaling import messages
from server.admission.proxies import Proxies

from .front import EXAMPLES, filled, free_ports, program
from .test_caddy import caddy

ROOT = EXAMPLES.parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RELAYS = {name: service for name, service in SERVICES.items() if name.startswith("relay-")}
DOCKERFILE = (EXAMPLES / "Dockerfile").read_text()


def parsed(args: list[str]) -> dict[str, Any]:
    """The options of ``peer ARGS``, as click reads them."""
    command: click.Command = import_module(f"peer.cli.commands.{args[0]}").command
    return command.make_context(args[0], args[1:]).params


def test_the_file_has_what_compose_knows() -> None:
    assert set(COMPOSE) <= {"name", "services", "networks", "volumes", "secrets", "x-relay"}
    known = set(
        "image build command environment secrets networks network_mode depends_on healthcheck restart".split()
    )
    known |= set(
        "stop_grace_period mem_limit memswap_limit ulimits read_only cap_drop security_opt volumes ports".split()
    )
    for name, service in SERVICES.items():
        assert set(service) <= known, name
        assert set(service.get("networks", [])) <= set(COMPOSE["networks"])
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", {})) <= set(SERVICES)
        for item in (*service.get("command", ()), *service.get("healthcheck", {}).get("test", ())):
            assert isinstance(item, str), item  # a bare `no` or a number is none in YAML
        for volume in service.get("volumes", []):
            where = volume.partition(":")[0]
            assert (EXAMPLES / where).exists() if where.startswith(".") else where in COMPOSE["volumes"]


@pytest.mark.parametrize("name", RELAYS)
def test_the_relays_command_is_understood(name: str) -> None:
    params = parsed(RELAYS[name]["command"])
    assert params["host"] == "0.0.0.0" and params["metrics"] == ("0.0.0.0", 9100)
    for variable in RELAYS[name]["environment"]:
        assert variable.removeprefix("PEER_").lower().replace("_", "-") in known_options()["serve"]
    for secret in (params["token_file"], params["turn_secret_file"]):
        assert secret.removeprefix("/run/secrets/") in RELAYS[name]["secrets"]
    for server in params["ice_servers"]:
        assert server.startswith(("stun:", "turn:")), "turns:, but coturn runs with --no-tls"


def test_the_relays_trust_their_proxys_network_and_no_other() -> None:
    (subnet,) = (ipaddress.ip_network(item["subnet"]) for item in COMPOSE["networks"]["front"]["ipam"]["config"])
    for service in RELAYS.values():
        proxies = Proxies(parsed(service["command"])["trust_proxies"])
        assert proxies.trust(str(subnet[2])) and not proxies.trust(str(subnet.broadcast_address + 1))
    assert COMPOSE["networks"]["ledger"] == {"internal": True}
    inside = {name for name, service in SERVICES.items() if "front" in service.get("networks", ())}
    assert inside == {*RELAYS, "caddy"}


def test_caddy_knows_every_relay_and_redis_only_them() -> None:
    port = parsed(RELAYS["relay-1"]["command"])["port"]
    assert SERVICES["caddy"]["environment"]["RELAYS"].split() == [f"{name}:{port}" for name in RELAYS]
    variables = set(re.findall(r"\{\$(\w+)", (EXAMPLES / "Caddyfile").read_text()))
    assert set(SERVICES["caddy"]["environment"]) == variables
    inside = {name for name, service in SERVICES.items() if "ledger" in service.get("networks", ())}
    assert inside == {*RELAYS, "redis"}


def test_nobody_but_caddy_and_coturn_is_reached_from_outside() -> None:
    open_ = {name for name, service in SERVICES.items() if "ports" in service or service.get("network_mode")}
    assert open_ == {"caddy", "coturn"}


def test_coturn_is_told_what_it_knows() -> None:
    told = subprocess.run(["turnserver", "--help"], capture_output=True, text=True, timeout=10)
    for flag in SERVICES["coturn"]["command"]:
        if flag.startswith("--"):
            assert re.search(rf"{flag.partition('=')[0]}\b", told.stdout + told.stderr), flag


def test_the_configuration_of_coturn_is_the_one_of_its_page() -> None:
    """But for the port of TLS, which a web server has where all is on one machine."""

    def settings(text: str) -> list[str]:
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    page = (ROOT / "docs" / "turn.md").read_text()
    (shown,) = re.findall(r"^```\n(realm=.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ours = (EXAMPLES / "turnserver.conf").read_text()
    assert settings(ours) == settings(shown.replace("tls-listening-port=443", "tls-listening-port=5349"))
    servers = tomllib.loads((EXAMPLES / "relay.toml").read_text())["serve"]["ice-server"]
    assert [server.split(":")[2].partition("?")[0] for server in servers if server.startswith("turns:")] == ["5349"]


def test_the_image_has_of_our_dependencies_what_the_relay_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    ours = {*project["dependencies"], *project["optional-dependencies"]["cluster"]}
    installed = re.findall(r'^ +"([^"]+)"', DOCKERFILE, re.MULTILINE)
    assert len(installed) == 5 and set(installed) <= ours
    user = re.findall(r"^USER (\d+):", DOCKERFILE, re.MULTILINE)
    assert user == ["10001"] and "chown 10001" in (EXAMPLES / "compose.yaml").read_text()
    entry, start = (re.findall(rf"^{word} (.*)$", DOCKERFILE, re.MULTILINE) for word in ("ENTRYPOINT", "CMD"))
    assert yaml.safe_load(entry[0]) == ["peer"] and parsed(yaml.safe_load(start[0]))["host"] == "0.0.0.0"


_WITHOUT = """
import sys

class Nowhere:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MEDIA:
            raise ModuleNotFoundError(f"no {name} in the image", name=name)

MEDIA = {"aiortc", "aioice", "av", "cv2", "numpy", "pyee", "pylibsrtp", "OpenSSL", "dns", "ifaddr", "google_crc32c"}
sys.meta_path.insert(0, Nowhere())
from peer.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("way", ["token", "jwt"])
def test_the_relay_runs_without_the_media_engine(tmp_path: Path, way: str) -> None:
    (tmp_path / "secret").write_text("hush" * 8)
    asks = ["--token-file" if way == "token" else "--jwt-secret-file", str(tmp_path / "secret")]
    command = [sys.executable, "-c", _WITHOUT, "serve", "--port", "0", "--metrics", "0", *asks]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as alone:
        assert alone.stdout is not None and alone.stderr is not None
        lines = [alone.stdout.readline() for _ in range(3)]
        alone.terminate()
        assert alone.wait(10) == 0, alone.stderr.read()
    assert lines[0].startswith("relay at ws://") and lines[2].startswith("metrics at http://")


async def test_the_same_without_containers_is_one_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every program with the command that compose gives it, but for addresses and paths: peers of both meet."""
    (tmp_path / "relay.token").write_text("secret")
    (tmp_path / "turn.secret").write_text("hush" * 8)
    redis_port, health, *ports = free_ports(2 + len(RELAYS))
    cluster = RELAYS["relay-1"]["environment"]["PEER_CLUSTER"]
    cluster = cluster.replace("@redis:6379", f"@127.0.0.1:{redis_port}").replace(_PASSWORD, "pass")
    monkeypatch.setenv("PEER_CLUSTER", cluster)
    redis = [part.replace(_PASSWORD, "pass") for part in SERVICES["redis"]["command"]]
    there = ("--bind", "127.0.0.1", "--port", str(redis_port), "--dir", str(tmp_path))
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(program(*redis, *there, port=redis_port, log=tmp_path / "redis.log"))
        for service, port, metrics in zip(RELAYS.values(), ports, (str(health), "0"), strict=True):
            here = {"--trust-proxy=172.30.80.0/24": "--trust-proxy=127.0.0.1", "/run/secrets": str(tmp_path)}
            here |= {"0.0.0.0:9100": metrics, "--host=0.0.0.0": f"--port={port}"}
            command = filled("\0".join(service["command"]), here).split("\0")
            log = tmp_path / f"{port}.log"
            await stack.enter_async_context(program(sys.executable, "-m", "peer", *command, port=port, log=log))
        where = " ".join(f"127.0.0.1:{port}" for port in ports)
        front = await stack.enter_async_context(caddy(tmp_path, where, health))
        everybody: list[str] = []
        while not all([await _peers(port) for port in ports]):
            assert len(everybody) < 40
            peer = await stack.enter_async_context(front.opened())
            everybody.append(peer_id := f"p{len(everybody)}")
            await peer.send({"type": "join", "peerId": peer_id, "token": "secret"})
            assert set((await peer.get())["peers"]) == {*everybody} - {peer_id}


_PASSWORD = "${REDIS_PASSWORD:?write it into .env}"


async def _peers(port: int) -> int:
    """How many sit at the relay at this port."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.1\r\n\r\n")
    found = json.loads((await reader.read()).partition(b"\r\n\r\n")[2])["peers"]
    writer.close()
    assert isinstance(found, int)
    return found


def test_the_alarms_are_about_metrics_that_there_are() -> None:
    """In the page on metrics, which a test of its own holds to what the relay shows."""
    page = (ROOT / "docs" / "metrics.md").read_text()
    rules = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"][0]["rules"]
    assert len(rules) > 4
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "annotations"} and rule["annotations"]["summary"]
        for metric in re.findall(r"\brelay_\w+", rule["expr"]):
            assert re.search(rf"^\| `{metric.removesuffix('_bucket')}[`{{]", page, re.MULTILINE), metric
        for code in re.findall(r'code="([^"]+)"', rule["expr"]):
            assert code in messages.ERROR_CODES or int(code) == messages.CLOSE_TOO_SLOW
        for limits in re.findall(r'limit=~"([^"]+)"', rule["expr"]):
            assert all(f"`{limit}`" in (ROOT / "docs" / "limits.md").read_text() for limit in limits.split("|"))
