"""``peer token``, and the tokens of ``peer serve`` and its clients: their sources, and that no log has them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import jwt
import pytest

from peer.cli.settings import Settings
from tests.cli.parameters import params, write_config
from tests.cli.program import Program
from tests.server.keys import MAKERS, SECRET, pair, secret


def test_signed_token_admits_only_its_room_and_ids(tmp_path: Path) -> None:
    private, public = pair(tmp_path, MAKERS["EdDSA"]())
    with Program("token", "--jwt-key", private, "--room", "attic", "--id", "cam-*", "--expires", "5m") as made:
        assert made.wait() == 0
    (token,) = made.text
    (tmp_path / "token").write_text(token)
    with Program("serve", "--host", "0.0.0.0", "--port", "0", "--jwt-key", public, "--json", "-vv") as serve:
        url = serve.expect("listening")["url"].replace("0.0.0.0", "127.0.0.1")
        join = ("list", "--server", url, "--room", "attic", "--token-file", str(tmp_path / "token"), "--json", "-vv")
        with Program(*join, "--id", "cam-1") as inside:
            assert inside.wait() == 0
            logged = inside.errors
        with Program(*join, "--id", "door") as outside:
            assert outside.wait() == 3
            logged += outside.errors
        assert outside.events[-1]["code"] == "unauthorized"
        with Program(*join) as temporary:
            assert temporary.wait() == 3
            assert (
                "`peer list` joins as list-…" in temporary.errors and "peer token --id 'list-*'" in temporary.errors
            )
            logged += temporary.errors
        serve.send(signal.SIGTERM)
        assert serve.wait() == 0
        logged += serve.errors
    assert "cam-1 joined" in logged and "unauthorized" in logged
    assert token not in logged + repr(
        [program.events + program.text for program in (serve, inside, outside, temporary)]
    )


def test_shared_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_TOKEN", "hush-hush")
    with Program("serve", "--port", "0", "--json", "-vv") as serve:
        url = serve.expect("listening")["url"]
        assert b"hush" not in Path(f"/proc/{serve.pid}/cmdline").read_bytes()
        with Program("list", "--server", url, "--json") as inside:
            assert inside.wait() == 0
        with Program("list", "--server", url, "--json", "--token", "guess") as outside:
            assert outside.wait() == 3
        assert outside.events[-1]["code"] == "unauthorized"
        assert "hush" not in serve.errors


def test_serve_beyond_loopback_without_token_exits_with_2() -> None:
    with Program("serve", "--host", "0.0.0.0", "--port", "0") as program:
        assert program.wait() == 2
        assert program.errors.count("\n") == 1 and "--open" in program.errors


def test_serve_beyond_loopback_with_open_listens() -> None:
    with Program("serve", "--host", "0.0.0.0", "--port", "0", "--open", "--json") as program:
        program.expect("listening")


def test_serve_open_with_token_exits_with_2(tmp_path: Path) -> None:
    for args in (("--token", "x"), ("--jwt-secret-file", secret(tmp_path))):
        with Program("serve", "--port", "0", "--open", *args) as program:
            assert program.wait() == 2
            assert "--open allows joining without a token" in program.errors


def test_token_json_has_the_claims(tmp_path: Path) -> None:
    with Program("token", "--jwt-secret-file", secret(tmp_path), "--id", "a", "--json") as program:
        assert program.wait() == 0
    (body,) = program.events
    claims = jwt.decode(body["token"], SECRET, algorithms=["HS256"])
    assert claims == {"room": "", "id": "a", "exp": body["expires"], "iat": body["expires"] - 3600}


@pytest.mark.parametrize("args", [(), ("--jwt-key", "a", "--jwt-secret-file", "b"), ("--jwt-key", os.devnull)])
def test_token_without_usable_key_exits_with_2(args: tuple[str, ...]) -> None:
    with Program("token", "--id", "a", *args) as program:
        assert program.wait() == 2
        assert "Traceback" not in program.errors and "--jwt-key" in program.errors


def test_token_and_token_file_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("from-file\n")
    file = str(tmp_path / "token")
    path = write_config(tmp_path, f'token-file = "{file}"\n')
    for args, environment, expected in (
        (("--token-file", file), "from-environment", "from-file"),
        (("--token", "flag", "--config", path), None, "flag"),
        (("--config", path), None, "from-file"),
        (("--config", path), "from-environment", "from-environment"),
    ):
        monkeypatch.delenv("PEER_TOKEN", raising=False)
        if environment is not None:
            monkeypatch.setenv("PEER_TOKEN", environment)
        assert settings("run", *args).relay.token == expected


def settings(name: str, *args: str) -> Settings:
    from importlib import import_module

    import click

    command: click.Command = import_module(f"peer.cli.commands.{name}").command
    with command.make_context(name, list(args)) as context:
        return Settings.read(dict(context.params))


def test_token_and_token_file_both_given_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x")
    with Program("list", "--token", "a", "--token-file", str(tmp_path / "token")) as program:
        assert program.wait() == 2
        assert "use one of them" in program.errors


def test_missing_token_file_exits_with_2(tmp_path: Path) -> None:
    with Program("list", "--token-file", str(tmp_path / "nowhere")) as program:
        assert program.wait() == 2
        assert "nowhere: No such file" in program.errors and "Traceback" not in program.errors
    assert params("list", "--token", "a")["token"] == "a"
