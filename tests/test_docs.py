"""The documentation is complete and true. Names of tests are short."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

import peer
from peer import events
from peer.cli import config_file
from peer.cli import exit_codes as exits
from peer.cli.command import known_options
from peer.cli.root import COMMANDS
from peer.errors import CAUSES
from peer.script import language, steps
from peer.signaling import messages

from .test_layering import LAYERS

ROOT = Path(__file__).parent.parent
INTERFACE = (ROOT / "docs" / "interface.md").read_text()
README = (ROOT / "README.md").read_text()
WITH_LIBRARY = [ROOT / "README.md", ROOT / "docs" / "interface.md", ROOT / "docs" / "tutorial-script.md"]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def row(cell: str, text: str = INTERFACE) -> str:
    """The line of a table whose first cell is ``cell``."""
    lines = [line for line in text.splitlines() if line.startswith(f"| {cell} |")]
    assert lines, f"no row for {cell}"
    return lines[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_in_the_readme_and_the_reference(name: str) -> None:
    assert f"`peer {name}" in README
    assert f"### peer {name}" in INTERFACE or name == "script"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    command: click.Command = import_module(f"peer.cli.commands.{name}").command
    for param in command.params:
        if isinstance(param, click.Option):
            for flag in (*param.opts, *param.secondary_opts):
                assert re.search(rf"`{re.escape(flag)}[ `]", INTERFACE), f"{name} {flag}"


def test_every_documented_option_exists() -> None:
    known = {flag for keys in known_options().values() for flag in keys} | {"config", "no-show", "help", "version"}
    for flag in re.findall(r"`--([a-z-]+)", INTERFACE):
        assert flag in known, flag


@pytest.mark.parametrize("event", events.ALL)
def test_every_event_is_documented_with_its_keys(event: type[events.Event]) -> None:
    line = row(f"`{event.event}`")
    keys = [name for name in inspect.signature(event).parameters if name != "time"]
    assert all(f"`{key}`" in line for key in keys), line


@pytest.mark.parametrize("reason", events.REASONS)
def test_every_reason_is_documented(reason: str) -> None:
    assert row(f"`{reason}`")


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_is_documented(cause: str) -> None:
    assert row(f"`{cause}`")


def test_every_exit_code_is_documented_and_in_the_help() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    assert codes == {0, 1, 2, 3, 4, 5, 6, 130}
    epilog = import_module("peer.cli.root").cli.epilog
    for code in codes:
        assert row(str(code))
        assert re.search(rf"^  {code} ", epilog, re.MULTILINE)


@pytest.mark.parametrize("verb", language.VERBS)
def test_every_verb_is_documented(verb: str) -> None:
    assert re.search(rf"^\| `{verb}[ `]", INTERFACE, re.MULTILINE)


@pytest.mark.parametrize("quantity", [*steps.VIDEO, *steps.AUDIO])
def test_every_quantity_is_documented(quantity: str) -> None:
    assert re.search(rf"^\| .*`{quantity}`", INTERFACE, re.MULTILINE)


def _fenced(text: str, marker: str = "") -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [block for kind, block in blocks if kind == marker]


def test_the_scripts_that_are_shown_are_understood() -> None:
    shown = [block for block in _fenced(INTERFACE) if block.lstrip().startswith(("#", "wait"))]
    assert shown
    for text in (*shown, *(path.read_text() for path in (ROOT / "examples").glob("*.peer"))):
        assert language.parse(text)


def test_the_configuration_that_is_shown_is_accepted() -> None:
    (text,) = _fenced(INTERFACE, "toml")
    values = config_file.arrange(tomllib.loads(text), known_options(), where="docs")
    assert values["run"]["id"] == "door"


@pytest.mark.parametrize("page", WITH_LIBRARY, ids=lambda page: page.name)
def test_the_python_that_is_shown_compiles(page: Path) -> None:
    blocks = _fenced(page.read_text(), "python")
    assert blocks
    for block in blocks:
        ast.parse(block)


@pytest.mark.parametrize("name", ["Agent", "Call"])
def test_the_public_library_is_documented(name: str) -> None:
    made = getattr(import_module("peer"), name)
    for member in vars(made):
        if not member.startswith("_"):
            assert re.search(rf"`(await )?{member}[(`]", INTERFACE), f"{name}.{member}"


def test_every_argument_of_agent_is_documented_with_its_default() -> None:
    arguments = INTERFACE[INTERFACE.index("### The arguments of Agent") :]
    for name, parameter in inspect.signature(peer.Agent).parameters.items():
        default = f"{parameter.default}" if not isinstance(parameter.default, str) else f'"{parameter.default}"'
        assert row(f"`{name}`", arguments).split(" | ")[1] == f"`{default}`"


@pytest.mark.parametrize(
    "page",
    [*WITH_LIBRARY, *(ROOT / "examples").glob("*.py")],
    ids=lambda page: page.name,
)
def test_programs_in_the_docs_end_without_a_relay(page: Path) -> None:
    for block in _fenced(page.read_text(), "python") if page.suffix == ".md" else [page.read_text()]:
        nodes = list(ast.walk(ast.parse(block)))
        calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func) == "Agent"]
        assert calls
        assert all("join_timeout" in {keyword.arg for keyword in call.keywords} for call in calls)
        caught = {ast.unparse(node.type) for node in nodes if isinstance(node, ast.ExceptHandler) and node.type}
        assert "PeerError" in caught


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_within_a_page_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", text):
        assert anchor in headings, anchor


def test_promises_of_a_node_name_existing_tests() -> None:
    page = (ROOT / "docs" / "node.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")][1:]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert rows
    for row_ in rows:
        names = re.findall(r"`(test_\w+)`", row_)
        assert names, row_
        assert all(f"def {name}(" in tests for name in names), row_


PROTOCOL = ROOT / "docs" / "protocol.md"


@pytest.mark.parametrize("kind", sorted({"join", "ice-servers"} | messages.SERVER_TYPES | messages.TARGETED_TYPES))
def test_every_message_type_is_documented(kind: str) -> None:
    assert re.search(rf'`{kind}`|"type": "{kind}"', PROTOCOL.read_text())


@pytest.mark.parametrize("code", sorted(messages.ERROR_CODES))
def test_every_error_code_is_documented(code: str) -> None:
    assert f"`{code}`" in PROTOCOL.read_text()


@pytest.mark.parametrize("name", [name for name in vars(messages) if name.startswith("CLOSE_")])
def test_every_close_code_is_documented(name: str) -> None:
    assert str(getattr(messages, name)) in PROTOCOL.read_text()


LIVING = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages that describe the tree as it is now."""


@pytest.mark.parametrize("page", LIVING, ids=lambda page: str(page.relative_to(ROOT)))
def test_paths_named_in_a_page_exist(page: Path) -> None:
    named = re.findall(r"(?<![\w/.$(-])((?:peer|server|tests|fuzz|benchmarks|examples)/[\w./-]*\w)", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", LIVING, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_named_in_a_page_exist(page: Path) -> None:
    known = {path.name for path in ROOT.rglob("*.py") if ".venv" not in path.parts}
    text = page.read_text()
    known |= set(re.findall(r"Save this program as `(\w+\.py)`", text))  # the reader's own
    assert set(re.findall(r"\b(\w+\.py)\b", text)) - known == set()


@pytest.mark.parametrize("program", LAYERS)
def test_layers_are_those_of_the_architecture_page(program: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    (line,) = re.findall(rf"^- `{program}`: (.*)$", page, re.MULTILINE)
    written = [set(re.findall(r"`([\w.]+)`", part)) for part in line.split(" → ")]
    assert written == [{name.partition(".")[2] for name in names} for names in LAYERS[program]]


@pytest.mark.parametrize(
    "page", [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name
)
def test_page_names_its_readers_first(page: Path) -> None:
    title, first, *_ = [line for line in page.read_text().splitlines() if line]
    assert title.startswith("# ") and first.startswith("For ")


VERBS = frozenset(
    "Accepts Adds Allows Assembles Calls Checks Closes Collects Computes Converts Creates Cuts Decides Decodes "
    "Delivers Draws Drops Encodes Estimates Executes Extends Feeds Finds Forwards Gathers Handles Hands Holds "
    "Keeps Lets Logs Maps Measures Merges Mixes Notices Observes Opens Orders Packetizes Passes Plays Posts "
    "Puts Reads Receives Records Removes Replaces Resamples Returns Routes Runs Schedules Selects Sends Serves "
    "Shows Splits Stands Starts Stops Stores Suppresses Takes Turns Waits Watches Writes".split()
)
"""Words that tell what a class does, where its docstring has to say what it is."""


def test_class_docstring_begins_with_what_the_class_is() -> None:
    for path in (*sorted((ROOT / "peer").rglob("*.py")), *sorted((ROOT / "server").rglob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                first = (ast.get_docstring(node) or "_").split()[0]
                assert first not in VERBS, f"{path.relative_to(ROOT)}: {node.name}: {first} …"


def test_no_test_name_exceeds_60_characters() -> None:
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for name in re.findall(r"\bdef (test_\w+)", path.read_text()):
            assert len(name) <= 60, f"{path.relative_to(ROOT)}: {name} has {len(name)} characters"
