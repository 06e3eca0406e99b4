"""The architecture, held: imports point down, each library has one home, the relay stays light."""

from __future__ import annotations

import subprocess
import sys

import grimp
import pytest

LAYERS = (
    {"cli"},
    {"script_runner"},
    {"agent"},
    {"exchange"},
    {"presentation", "connection", "measure"},
    {"call", "stats"},
    {"engine", "reception", "sending", "transport_path", "script"},
    {"media", "rtp", "signaling", "negotiation", "directory", "ice", "identity", "config", "backoff", "unreachable"},
    {"protocol", "events", "ice_server"},
    {"errors"},
)
"""Of ``peer``, from the top. A module imports from its own layer or those below."""

HOMES = {
    "aiortc": {"peer.connection", "peer.engine", "peer.reception", "peer.sending", "peer.transport_path"},
    "aioice": {"peer.connection", "peer.ice"},
    "websockets": {"peer.signaling", "peer.unreachable", "server.client", "server.frames"},
    "jwt": {"server.signed"},
    "prometheus_client": {"server.metrics"},
    "redis": {"server.cluster.link"},
    "cv2": {"peer.media.windows.child"},
}
"""The only users of a library whose interface we do not want to meet everywhere."""

PURE = (
    "negotiation", "directory", "backoff", "script", "protocol", "events", "errors", "config", "cli.redial",
    "ice_server",
    "media.h264", "media.sources.spec", "media.sources.passthrough", "media.sending.payload", "media.sending.rungs",
    "rtp.bandwidth", "rtp.losses", "rtp.packet", "rtp.payload", "rtp.pictures", "rtp.sequence", "rtp.sounds",
    "rtp.statistics",
)  # fmt: skip
"""What decides without I/O, or is read before anything heavy may be loaded: standard library only."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("peer", "server", include_external_packages=True, cache_dir=None)


def _layer(module: str) -> int | None:
    parts = module.split(".")
    if parts[0] != "peer" or len(parts) == 1 or parts[1] == "__main__":
        return None  # the package and its front door are above everything
    return next((number for number, names in enumerate(LAYERS) if parts[1] in names), -1)


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
    assert graph.find_modules_that_directly_import(library) <= HOMES[library]


def test_click_is_for_the_command_line_only(graph: grimp.ImportGraph) -> None:
    users = graph.find_modules_that_directly_import("click")
    assert users
    assert all(module.startswith("peer.cli") for module in users)


def test_the_server_takes_the_protocol_and_nothing_else_of_peer(graph: grimp.ImportGraph) -> None:
    ours = {module for module in graph.modules if module.startswith("server")}
    used = {imported for module in ours for imported in graph.find_modules_directly_imported_by(module)}
    assert {module for module in used if module.startswith("peer")} <= {
        "peer.protocol",
        "peer.ice_server",
        "peer.errors",
    }


def test_only_the_command_line_starts_the_server(graph: grimp.ImportGraph) -> None:
    users = graph.find_modules_that_directly_import("server.relay")
    assert {module for module in users if module.startswith("peer")} <= {"peer.cli.serve", "peer.cli.demo"}


@pytest.mark.parametrize("module", PURE)
def test_what_decides_needs_the_standard_library_only(graph: grimp.ImportGraph, module: str) -> None:
    reached = {f"peer.{module}"} | graph.find_upstream_modules(f"peer.{module}")
    foreign = {name for name in reached if not name.startswith(("peer", "server"))}
    assert {name for name in foreign if name.partition(".")[0] not in sys.stdlib_module_names} == set()


@pytest.mark.parametrize("module", ["negotiation", "directory", "backoff", "cli.redial"])
def test_what_decides_has_no_clock_and_no_loop(graph: grimp.ImportGraph, module: str) -> None:
    direct = graph.find_modules_directly_imported_by(f"peer.{module}")
    assert not direct & {"asyncio", "time", "socket", "threading", "os", "logging"}


@pytest.mark.parametrize("module", ["address", "words", "outgoing", "seats", "node"])
def test_what_decides_in_a_cluster_has_no_library_no_clock_and_no_loop(graph: grimp.ImportGraph, module: str) -> None:
    name = f"server.cluster.{module}"
    reached = {found.partition(".")[0] for found in graph.find_upstream_modules(name)} - {"peer", "server"}
    assert reached <= sys.stdlib_module_names
    direct = graph.find_modules_directly_imported_by(name)
    assert not direct & {"asyncio", "time", "socket", "threading", "os", "logging", "random"}


def _loaded(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("statement", ["import server.relay", "import peer", "import peer.protocol"])
def test_the_relay_loads_no_media_engine(statement: str) -> None:
    assert not _loaded(statement) & {"aiortc", "aioice", "av", "cv2", "numpy", "redis"}


def test_the_process_that_shows_windows_loads_no_media_engine() -> None:
    """Import order hangs imshow: engine-facts, "import av before cv2"."""
    assert not _loaded("import peer.media.windows.child") & {"aiortc", "aioice", "av", "websockets"}
