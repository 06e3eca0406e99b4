"""Options of commands: flags, environment, configuration file, precedence, and errors."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click
import pytest

from peer.cli.command import known_options
from peer.cli.settings import Settings
from peer.errors import ConfigError
from tests.cli.parameters import params, write_config


def test_precedence_of_flag_environment_file_and_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_config(tmp_path, 'server = "ws://file/ws"\n')
    assert params("run")["server"] == "ws://127.0.0.1:8080/ws"
    assert params("run", "--config", path)["server"] == "ws://file/ws"
    monkeypatch.setenv("PEER_SERVER", "ws://environment/ws")
    assert params("run", "--config", path)["server"] == "ws://environment/ws"
    assert params("run", "--config", path, "--server", "ws://flag/ws")["server"] == "ws://flag/ws"


def test_config_path_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_CONFIG", write_config(tmp_path, 'id = "door"\n'))
    assert params("run")["id"] == "door"


def test_default_config_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "peer").mkdir()
    (tmp_path / "peer" / "config.toml").write_text('[run]\nvideo = "test"\n')
    assert params("run")["video"] == "test"
    assert params("call", "door")["video"] == "auto"


def test_unreadable_config_folder_counts_as_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_path: Path) -> bool:
        raise PermissionError(
            13, "Permission denied"
        )  # what Path.is_file raises; chmod does not stop root, who may run this test

    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(Path, "is_file", refuse)
    assert params("run")["video"] == "auto"


def test_every_kind_of_value_comes_from_the_file(tmp_path: Path) -> None:
    path = write_config(
        tmp_path,
        """
        ice-server = ["stun:a:1", "turn:u:p@b:2"]
        relay-only = true
        size = "640x480"
        fps = 15
        video-codec = ["h264", "vp8"]
        max-bitrate = "2500k"
        show = false
        verbose = 2
        json = true
        [call]
        timeout = 3
        duration = "1.5s"
        """,
    )
    settings = Settings.read(params("call", "door", "--config", path))
    assert settings.relay.ice_servers == ("stun:a:1", "turn:u:p@b:2")
    assert settings.relay.relay_only is True
    assert settings.media.size == (640, 480)
    assert settings.media.fps == 15.0
    assert settings.media.video_codec == ("h264", "vp8")
    assert settings.media.max_bitrate == 2_500_000
    assert settings.media.show is False
    assert settings.verbose == 2
    assert settings.as_json is True
    assert settings.timeout == 3.0
    assert settings.duration == 1.5


def test_every_kind_of_value_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "PEER_ICE_SERVER": "stun:a:1 stun:b:2",
        "PEER_RELAY_ONLY": "1",
        "PEER_SIZE": "320x240",
        "PEER_SHOW": "0",
        "PEER_CALL": "door gate",
        "PEER_VIDEO_CODEC": "h264",
        "PEER_DURATION": "10s",
        "PEER_TOKEN": "secret",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = params("run")
    assert found["ice_servers"] == ("stun:a:1", "stun:b:2")
    assert found["relay_only"] is True
    assert found["size"] == (320, 240)
    assert found["show"] is False
    assert found["called"] == ("door", "gate")
    assert found["video_codec"] == ("h264",)
    assert found["duration"] == 10.0
    assert found["token"] == "secret"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever = 'ws://r/ws'", 'peer.toml: unknown key "sever"; did you mean server?'),
        ("size = 'big'", "peer.toml: size: 'big' is not a size"),
        ("fps = 'fast'", "peer.toml: fps: 'fast' is not a frame rate; use 1 to 240 frames per second"),
        ("fps = [30]", "peer.toml: fps: [30] is not a frame rate"),
        ("fps = nan", "peer.toml: fps: nan is not a frame rate"),
        ("fps = inf", "peer.toml: fps: inf is not a frame rate"),
        (f"fps = {'9' * 400}", "is not a frame rate; use 1 to 240 frames per second"),
        ("duration = -5.0", "peer.toml: duration: '-5.0' is not a duration"),
        ("duration = inf", "peer.toml: duration: 'inf' is not a duration"),
        ("duration = nan", "peer.toml: duration: 'nan' is not a duration"),
        ('size = "1\\rx720"', r"peer.toml: size: '1\rx720' has an odd width or height"),
        ("fps = true", "peer.toml: fps: True is not a frame rate"),
        ("video-codec = 5", "peer.toml: video-codec: 5 is not a list of codecs; use vp8 or h264, or both"),
        ("token = ['a']", "peer.toml: token: expected text, not ['a']"),
        ("speaker = 5", "peer.toml: speaker: expected text, not 5"),
        ("record = []", "peer.toml: record: expected text, not []"),
        ("ice-server = [3]", "peer.toml: ice-server: expected text, not 3"),
        ("server = 8080", "peer.toml: server: 8080 is not the URL of a relay"),
        ("id = ['a']", "peer.toml: id: "),
        ("[run]\nid = 'a b'", "peer.toml: id: 'a b' is not a valid id"),
        ("[run]\nconfig = 'x'", 'unknown key "config"'),
    ],
)
def test_invalid_value_in_file_error_names_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        params("run", "--config", write_config(tmp_path, text))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--server", "http://r/ws"], "write it like ws://r/ws"),
        (["--server", "r:8080"], "write it like ws://127.0.0.1:8080/ws"),
        (["--id", "a b"], "is not a valid id: use 1 to 64 of"),
        (["--size", "7x7"], "--size"),
        (["--fps", "0"], "--fps"),
        (["--video-codec", "av1"], "'av1' is not a list of codecs; use vp8 or h264, or both"),
        (["--max-bitrate", "fast"], "is not a bitrate"),
        (["--duration", "soon"], "is not a duration"),
        (["--log-format", "xml"], "--log-format"),
    ],
)
def test_invalid_flag_error_names_the_option(args: list[str], expected: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        params("run", *args)
    message = caught.value.format_message()
    assert expected in message
    assert args[0] in message


def test_known_options_cover_commands_without_config() -> None:
    known = known_options()
    assert {"server", "id", "video", "speaker", "record", "timeout"} <= known["call"]
    assert {"call", "duration"} <= known["run"]
    assert "config" not in known["run"]


@pytest.mark.parametrize(
    "args",
    [
        ("run", "--call", "--duration", "2s"),
        ("run", "--id", "--json"),
        ("call", "door", "--record", "--json"),
        ("call", "door", "--snapshot", ""),
    ],
)
def test_option_is_not_taken_as_the_value_before_it(args: tuple[str, ...]) -> None:
    command: click.Command = import_module(f"peer.cli.commands.{args[0]}").command
    with pytest.raises(click.BadParameter, match=r"missing before --|empty"):
        command.make_context(args[0], list(args[1:]))


def test_invalid_variable_error_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_FPS", "many")
    with pytest.raises(click.BadParameter) as caught:
        params("run")
    assert "PEER_FPS" in caught.value.format_message() and "--fps" not in caught.value.format_message()
    with pytest.raises(click.BadParameter) as caught:
        params("run", "--fps", "many")
    assert "--fps" in caught.value.format_message()
