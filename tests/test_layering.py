"""The architecture, held: imports point down, each library has one home, the relay stays light."""

from __future__ import annotations

import subprocess
import sys

import grimp
import pytest

LAYERS = (
    ("peer.cli",),
    ("peer.node", "peer.script.runner"),
    ("peer.agent",),
    ("peer.call_control",),
    ("peer.playout", "peer.script.expectations"),
    ("peer.call", "peer.stats"),
    ("peer.rtc", "peer.script"),
    ("peer.media", "peer.signaling", "peer.negotiation"),
    ("peer.rtp",),
    ("peer.codecs", "peer.signaling.messages", "peer.events", "peer.signaling.ice_servers"),
    ("peer.errors",),
)
"""Of ``peer``, from the top: packages and modules; the longest name that fits counts. A module imports from its own
layer or those below."""

HOMES = {
    "aiortc": ("peer.rtc",),
    "aioice": ("peer.rtc",),
    "websockets": (
        "peer.signaling.client",
        "peer.signaling.diagnosis",
        "server.transport.connection",
        "server.transport.frame_reader",
    ),
    "jwt": ("server.admission.jwt_tokens",),
    "prometheus_client": ("server.observability.prometheus",),
    "redis": ("server.cluster.redis_link",),
    "cv2": ("peer.media.windows.child",),
    "click": ("peer.cli",),
}
"""The only users of a library: a module, or a package with everything in it."""

PURE = (
    "peer.codecs", "peer.rtp", "peer.negotiation", "peer.script.language",
    "peer.signaling.backoff", "peer.signaling.ice_servers", "peer.signaling.messages", "peer.signaling.presence",
    "peer.errors", "peer.events", "peer.cli.config_file", "peer.node.redial",
    "peer.media.outgoing.quality_ladder", "peer.media.sources.passthrough", "peer.media.sources.spec",
    "server.cluster.address", "server.cluster.messages", "server.cluster.batch_queue", "server.cluster.state",
    "server.cluster.node",
)  # fmt: skip
"""What decides without I/O, or is read before anything heavy may be loaded: standard library only."""

NO_CLOCK = (
    "peer.negotiation", "peer.signaling.presence", "peer.signaling.backoff", "peer.node.redial",
    "server.cluster.address", "server.cluster.messages", "server.cluster.batch_queue", "server.cluster.state",
    "server.cluster.node",
)  # fmt: skip
"""Of these, what takes time as an argument."""


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("peer", "server", include_external_packages=True, cache_dir=None)


def _layer(module: str) -> int | None:
    if module in ("peer", "peer.__main__") or not _within(module, "peer"):
        return None  # the package and its front door are above everything
    fitting = [(len(name), number) for number, names in enumerate(LAYERS) for name in names if _within(module, name)]
    return max(fitting)[1] if fitting else -1


def test_imports_point_down(graph: grimp.ImportGraph) -> None:
    wrong = []
    for module in graph.modules:
        own = _layer(module)
        for imported in graph.find_modules_directly_imported_by(module):
            below = _layer(imported)
            if own is not None and below is not None and below < own:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_every_module_has_its_layer(graph: grimp.ImportGraph) -> None:
    assert [module for module in graph.modules if _layer(module) == -1] == []


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_one_home(graph: grimp.ImportGraph, library: str) -> None:
    users = graph.find_modules_that_directly_import(library)
    assert users
    assert {user for user in users if not any(_within(user, home) for home in HOMES[library])} == set()


def test_the_server_takes_the_protocol_and_nothing_else_of_peer(graph: grimp.ImportGraph) -> None:
    ours = {module for module in graph.modules if module.startswith("server")}
    used = {imported for module in ours for imported in graph.find_modules_directly_imported_by(module)}
    assert {module for module in used if module.startswith("peer")} <= {
        "peer.signaling.messages",
        "peer.signaling.ice_servers",
        "peer.errors",
    }


def test_only_the_command_line_starts_the_server(graph: grimp.ImportGraph) -> None:
    users = graph.find_modules_that_directly_import("server.relay")
    assert {module for module in users if module.startswith("peer")} <= {
        "peer.cli.commands.serve",
        "peer.cli.commands.demo",
    }


@pytest.mark.parametrize("module", PURE)
def test_what_decides_needs_the_standard_library_only(graph: grimp.ImportGraph, module: str) -> None:
    own = {module} | graph.find_descendants(module)
    reached = own.union(*(graph.find_upstream_modules(name) for name in own))
    foreign = {name for name in reached if not name.startswith(("peer", "server"))}
    assert {name for name in foreign if name.partition(".")[0] not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("module", NO_CLOCK)
def test_what_decides_has_no_clock_and_no_loop(graph: grimp.ImportGraph, module: str) -> None:
    for name in {module} | graph.find_descendants(module):
        impure = {"asyncio", "time", "socket", "threading", "os", "logging", "random"}
        if name in (
            "peer.signaling.backoff",
            "peer.node.redial",
        ):  # their jitter; tests pass a generator of their own
            impure -= {"random"}
        assert not graph.find_modules_directly_imported_by(name) & impure


def _loaded(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("statement", ["import server.relay", "import peer", "import peer.signaling.messages"])
def test_the_relay_loads_no_media_engine(statement: str) -> None:
    assert not _loaded(statement) & {"aiortc", "aioice", "av", "cv2", "numpy", "redis"}


def test_the_process_that_shows_windows_loads_no_media_engine() -> None:
    """Import order hangs imshow: engine-facts, "import av before cv2"."""
    assert not _loaded("import peer.media.windows.child") & {"aiortc", "aioice", "av", "websockets"}
