"""``peer`` itself: the list of commands, each imported when it runs."""

from __future__ import annotations

import difflib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Final

import click

COMMANDS: Final = {
    "call": "Call these peers; end when the last call ends.",
    "run": "Stay joined and answer calls: a camera node.",
    "list": "List the peers in the room.",
    "devices": "List the cameras, microphones and speakers of this machine.",
    "script": "Run a call sequence from a file.",
    "serve": "Run the relay server, with a web page for browsers.",
    "token": "Make a signed token for a relay that requires one.",
    "demo": "Run a relay, a node and a call here, without any hardware.",
}
"""The first line of each command's help, kept here so that ``peer --help`` imports no command."""

_EXIT_CODES = """\b
Exit codes:
  0    success
  1    a call or a script step failed
  2    invalid option, configuration or script
  3    the relay is unreachable or refused the join
  4    the peer is absent, declined or did not answer
  5    a media device or file failed
  6    a connected call was lost
  130  interrupted
"""


class Group(click.Group):
    """A group whose commands are the modules in ``commands/``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(f".commands.{cmd_name}", __package__), "command")  # noqa: B009
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            close = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.5)
            hint = f"Did you mean {close[0]}?" if close else f"Commands: {', '.join(COMMANDS)}."
            ctx.fail(f"Unknown command {name}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        try:
            click.echo(f"peer {version('headless-webrtc-peer')}")
        except PackageNotFoundError:
            click.echo("peer (not installed)")
        ctx.exit()


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_CODES,
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """A headless WebRTC peer: video and audio calls from a terminal, a service or a script.

    \b
    peer demo                            a call on this machine, without any hardware
    peer serve                           a relay, with a web page at http://127.0.0.1:8080/
    peer run --id door                   a camera node that answers calls
    peer call door                       a call to this node
    """
