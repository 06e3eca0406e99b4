"""Parameters of a command as click parses them, and configuration files for tests."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import click


def params(name: str, *args: str) -> dict[str, Any]:
    """The parameters with which the command ``name`` would run."""
    command: click.Command = import_module(f"peer.cli.commands.{name}").command
    with command.make_context(name, list(args)) as ctx:
        return dict(ctx.params)


def write_config(tmp_path: Path, text: str) -> str:
    """Write a configuration file and return its path."""
    path = tmp_path / "peer.toml"
    path.write_text(text)
    return str(path)
