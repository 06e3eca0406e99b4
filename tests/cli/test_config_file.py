"""The configuration file: which command gets which value, and what a mistake is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from peer.cli import config_file
from peer.errors import ConfigError

OPTIONS = {
    "call": {"server", "id", "video", "timeout"},
    "run": {"server", "id", "video", "call"},
    "serve": {"host", "port"},
}


def arrange(body: dict[str, object]) -> dict[str, dict[str, object]]:
    return config_file.arrange(body, OPTIONS, where="peer.toml")


def refusal(body: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        arrange(body)
    return str(caught.value)


def test_a_key_at_the_top_goes_to_every_command_that_has_it() -> None:
    values = arrange({"server": "ws://r/ws", "timeout": "3s"})
    assert values == {"call": {"server": "ws://r/ws", "timeout": "3s"}, "run": {"server": "ws://r/ws"}, "serve": {}}


def test_a_commands_own_table_wins() -> None:
    values = arrange({"run": {"video": "/dev/video0"}, "video": "none"})
    assert values["call"]["video"] == "none"
    assert values["run"]["video"] == "/dev/video0"


def test_an_option_named_like_a_command_is_no_table() -> None:
    values = arrange({"call": ["door"], "run": {"call": ["gate"]}})
    assert values["run"]["call"] == ["gate"]
    assert arrange({"call": ["door"]})["run"]["call"] == ["door"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"sever": "x"}, 'peer.toml: unknown key "sever"; did you mean server?'),
        ({"run": {"vidoe": "x"}}, 'peer.toml, [run]: unknown key "vidoe"; did you mean video?'),
        ({"serve": {"video": "x"}}, 'peer.toml, [serve]: unknown key "video"'),
        ({"rum": {"video": "x"}}, 'peer.toml: unknown key "rum"; did you mean run?'),
        ({"server": {"url": "x"}}, "peer.toml: server is an option, not a table"),
        ({"zzz": 1}, "there are call, host"),
    ],
)
def test_an_unknown_key_is_told_the_closest(body: dict[str, object], told: str) -> None:
    assert told in refusal(body)


def test_a_file_that_is_not_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "peer.toml"
    path.write_text("server = ws://no-quotes\n")
    with pytest.raises(ConfigError, match="not TOML") as caught:
        config_file.load(path, OPTIONS)
    assert str(path) in str(caught.value)
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\x00b = 1", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000])
def test_a_file_of_other_bytes_is_a_configuration_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "peer.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="not TOML"):
        config_file.load(path, OPTIONS)


def test_a_key_with_a_line_break_is_told_in_one_line() -> None:
    assert "unknown key 'a\\nb'" in refusal({"a\nb": 1})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config_file.load(tmp_path / "none.toml", OPTIONS)


def test_the_default_place_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert config_file.default_path() == Path("/home/ada/.config/peer/config.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/xdg-ada")
    assert config_file.default_path() == Path("/etc/xdg-ada/peer/config.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_file.default_path() == Path("/home/ada/.config/peer/config.toml")
