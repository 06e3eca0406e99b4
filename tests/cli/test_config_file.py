"""The configuration file: the values of each command, and the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def error_of(body: dict[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        arrange(body)
    return str(caught.value)


def test_top_level_key_applies_to_every_command_that_has_it() -> None:
    values = arrange({"server": "ws://r/ws", "timeout": "3s"})
    assert values == {"call": {"server": "ws://r/ws", "timeout": "3s"}, "run": {"server": "ws://r/ws"}, "serve": {}}


def test_command_table_overrides_top_level_key() -> None:
    values = arrange({"run": {"video": "/dev/video0"}, "video": "none"})
    assert values["call"]["video"] == "none"
    assert values["run"]["video"] == "/dev/video0"


def test_option_named_like_a_command_may_be_a_list() -> None:
    values = arrange({"call": ["door"], "run": {"call": ["gate"]}})
    assert values["run"]["call"] == ["gate"]
    assert arrange({"call": ["door"]})["run"]["call"] == ["door"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"sever": "x"}, 'peer.toml: unknown key "sever"; did you mean server?'),
        ({"run": {"vidoe": "x"}}, 'peer.toml, [run]: unknown key "vidoe"; did you mean video?'),
        ({"serve": {"video": "x"}}, 'peer.toml, [serve]: unknown key "video"'),
        ({"rum": {"video": "x"}}, "peer.toml: unknown table [rum]; did you mean [run]?"),
        ({"kitchen": {"video": "x"}}, "unknown table [kitchen]; tables are named after commands: call, run, serve"),
        ({"server": {"url": "x"}}, "peer.toml: server is an option, not a table"),
        ({"zzz": 1}, "known keys: call, host"),
    ],
)
def test_unknown_key_error_suggests_the_closest_key(body: dict[str, object], message: str) -> None:
    assert message in error_of(body)


def test_all_mistakes_are_reported() -> None:
    with pytest.raises(ConfigError) as caught:
        config_file.arrange(
            {"sever": "x", "timeout": "soon", "kitchen": {}, "run": {"vidoe": "x"}},
            OPTIONS,
            where="peer.toml",
            check=lambda command, key, value: f"{value!r} is not a time" if key == "timeout" else None,
        )
    assert [str(error).split(";")[0] for error in (caught.value, *caught.value.others)] == [
        'peer.toml: unknown key "sever"',
        "peer.toml: unknown table [kitchen]",
        'peer.toml, [run]: unknown key "vidoe"',
        "peer.toml: timeout: 'soon' is not a time",
    ]


def test_file_with_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "peer.toml"
    path.write_text('server = "ws://r/ws"\n', encoding="utf-8-sig")
    assert config_file.load(path, OPTIONS)["run"] == {"server": "ws://r/ws"}


def test_file_that_is_not_toml_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "peer.toml"
    path.write_text("server = ws://no-quotes\n")
    with pytest.raises(ConfigError, match="invalid TOML") as caught:
        config_file.load(path, OPTIONS)
    assert str(path) in str(caught.value)
    assert "line 1" in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\x00b = 1", b"a = " + b"[" * 5000, b"a = " + b"9" * 5000])
def test_file_with_arbitrary_bytes_is_a_config_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "peer.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="invalid TOML"):
        config_file.load(path, OPTIONS)


def test_key_with_line_break_error_has_one_line() -> None:
    assert "unknown key 'a\\nb'" in error_of({"a\nb": 1})


def test_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        config_file.load(tmp_path / "none.toml", OPTIONS)


def test_default_path_follows_xdg_config_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    assert config_file.default_path() == Path("/home/ada/.config/peer/config.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/etc/xdg-ada")
    assert config_file.default_path() == Path("/etc/xdg-ada/peer/config.toml")
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert config_file.default_path() == Path("/home/ada/.config/peer/config.toml")


def test_camera_controls_table_is_the_option() -> None:
    body = {"camera-control": ["gain=1"], "camera": {"controls": {"brightness": 10, "focus_auto": False}}}
    values = config_file.arrange(body, {"run": {"camera-control"}, "list": {"server"}}, where="x")
    assert values == {"run": {"camera-control": ["gain=1", "brightness=10", "focus_auto=false"]}, "list": {}}


@pytest.mark.parametrize("camera", [{}, {"control": {}}, {"controls": 5}, {"controls": {}, "x": 1}])
def test_camera_table_with_other_content_is_a_mistake(camera: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"x: \[camera\] has one table, \[camera.controls\]"):
        config_file.arrange({"camera": camera}, {"run": {"camera-control"}}, where="x")
