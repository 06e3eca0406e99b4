"""The layers of docs/architecture.md: which module may import which, the home of each library, pure modules, light
imports."""

from __future__ import annotations

import subprocess
import sys

import grimp
import pytest

LAYERS = {
    "peer": (
        ("peer.cli",),
        ("peer.node", "peer.script.runner"),
        ("peer.agent",),
        ("peer.room",),
        ("peer.call_control",),
        ("peer.playout", "peer.source_watch", "peer.script.expectations"),
        ("peer.call", "peer.stats"),
        ("peer.rtc", "peer.script"),
        ("peer.media", "peer.signaling", "peer.negotiation"),
        ("peer.rtp",),
        ("peer.codecs", "peer.signaling.messages", "peer.signaling.ice_servers", "peer.events"),
        ("peer.errors", "peer.log_limit", "peer.options", "peer.request_budget", "peer.timeouts"),
    ),
    "server": (
        ("server.run", "server.__main__"),
        ("server.relay",),
        ("server.sessions",),
        ("server.ice", "server.memory_estimate"),
        ("server.transport", "server.cluster"),
        ("server.admission", "server.rooms"),
        ("server.observability",),
        ("server.http", "server.config", "server.memory_budget", "server.renewal_queue"),
        ("server.errors",),
    ),
}
"""Packages and modules from the top. A module may import from its own layer and from the layers below it. Where two
names match a module, the longer one counts."""

BETWEEN = {
    "server": ("peer.signaling.messages", "peer.signaling.message_json", "peer.signaling.ice_servers", "peer.errors"),
    "peer": (
        "server.admission.jwt_tokens",
        "server.admission.secret_files",
        "server.config",
        "server.errors",
        "server.relay",
        "server.run",
    ),
}
"""What each program may import of the other. Of ``peer``, only ``peer.cli`` imports the server."""

HOMES = {
    "aiortc": ("peer.rtc",),
    "aioice": ("peer.rtc",),
    "websockets": (
        "peer.signaling.client",
        "peer.signaling.diagnosis",
        "server.transport.connection",
        "server.transport.frame_reader",
        "server.transport.message_assembler",
        "server.transport.websocket",
    ),
    "jwt": ("server.admission.jwt_tokens",),
    "prometheus_client": ("server.observability.prometheus",),
    "redis": ("server.cluster.redis_ledger",),
    "cv2": ("peer.media.windows.child",),
    "click": ("peer.cli",),
}
"""The only modules or packages that import a library."""

PURE = (
    "peer.codecs", "peer.errors", "peer.events", "peer.negotiation", "peer.options", "peer.request_budget",
    "peer.rtp", "peer.cli.config_file", "peer.media.frame_rate_limiter", "peer.media.incoming.freezes",
    "peer.media.outgoing.frame_rate",
    "peer.media.outgoing.quality_ladder", "peer.media.outgoing.rung_selector",
    "peer.media.recording.av_sync", "peer.media.recording.key_frame_gate",
    "peer.media.sources.constraints", "peer.media.sources.passthrough", "peer.media.sources.spec", "peer.node.redial",
    "peer.rtc.answer", "peer.rtc.codec_preferences", "peer.rtc.engine_sections", "peer.rtc.remote_description",
    "peer.rtc.sdp", "peer.rtc.sdp_bundle", "peer.rtc.sdp_codecs", "peer.rtc.sdp_parser", "peer.rtc.sdp_transports",
    "peer.rtc.sdp_writer", "peer.rtc.silence",
    "peer.script.language", "peer.script.steps",
    "peer.signaling.backoff", "peer.signaling.ice_servers", "peer.signaling.message_json", "peer.signaling.messages",
    "peer.signaling.presence",
    "server.cluster.address", "server.cluster.batch_queue", "server.cluster.forwarding", "server.cluster.messages",
    "server.cluster.node", "server.cluster.recovery", "server.cluster.seats", "server.cluster.state",
    "server.config", "server.rooms.rooms",
)  # fmt: skip
"""Modules and packages that reach nothing but the standard library: decisions without I/O, and what is imported
before anything heavy may be loaded."""

NO_CLOCK = (
    "peer.media.incoming.freezes", "peer.media.outgoing.frame_rate", "peer.media.outgoing.quality_ladder",
    "peer.media.outgoing.rung_selector", "peer.negotiation", "peer.node.redial", "peer.request_budget",
    "peer.rtc.answer", "peer.rtc.codec_preferences", "peer.rtc.engine_sections", "peer.rtc.remote_description",
    "peer.rtc.sdp",
    "peer.rtc.sdp_bundle", "peer.rtc.sdp_codecs", "peer.rtc.sdp_parser", "peer.rtc.sdp_transports",
    "peer.rtc.sdp_writer", "peer.rtc.silence",
    "peer.signaling.backoff", "peer.signaling.presence",
    "server.cluster.address", "server.cluster.batch_queue", "server.cluster.forwarding", "server.cluster.messages",
    "server.cluster.node", "server.cluster.recovery", "server.cluster.seats", "server.cluster.state",
    "server.rooms.rooms",
)  # fmt: skip
"""Of these, the ones that take time as an argument and never see an event loop."""

JITTERED = ("peer.node.redial", "peer.signaling.backoff")
"""Of these, the ones that add jitter; tests pass a generator of their own."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("peer", "server", include_external_packages=True, cache_dir=None)


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def _layer(module: str) -> int | None:
    """The number of a module's layer from the top; ``None`` above all layers, -1 in none of them."""
    if module in ("peer", "peer.__main__", "server"):
        return None
    layers = LAYERS[module.partition(".")[0]]
    matches = [(len(name), number) for number, names in enumerate(layers) for name in names if _within(module, name)]
    return max(matches)[1] if matches else -1


def _modules(graph: grimp.ImportGraph) -> list[str]:
    return [module for module in graph.modules if module.partition(".")[0] in LAYERS]


def test_import_of_a_higher_layer_is_refused(graph: grimp.ImportGraph) -> None:
    wrong = []
    for module in _modules(graph):
        own = _layer(module)
        for imported in graph.find_modules_directly_imported_by(module):
            if module.partition(".")[0] == imported.partition(".")[0]:
                other = _layer(imported)
                if own is not None and other is not None and other < own:
                    wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_every_module_has_a_layer(graph: grimp.ImportGraph) -> None:
    assert [module for module in _modules(graph) if _layer(module) == -1] == []


def test_no_two_modules_import_each_other(graph: grimp.ImportGraph) -> None:
    pairs = [
        f"{module} and {imported}"
        for module in _modules(graph)
        for imported in graph.find_modules_directly_imported_by(module)
        if module < imported and graph.direct_import_exists(importer=imported, imported=module)
    ]
    assert pairs == []


@pytest.mark.parametrize("program", BETWEEN)
def test_the_programs_share_only_what_is_named(graph: grimp.ImportGraph, program: str) -> None:
    own = [module for module in _modules(graph) if _within(module, program)]
    used = {imported for module in own for imported in graph.find_modules_directly_imported_by(module)}
    others = tuple(f"{other}." for other in LAYERS if other != program)
    assert {module for module in used if module.startswith(others)} <= set(BETWEEN[program])


def test_only_the_command_line_imports_the_server(graph: grimp.ImportGraph) -> None:
    users = {
        user
        for module in BETWEEN["peer"]
        for user in graph.find_modules_that_directly_import(module)
        if _within(user, "peer")
    }
    assert users
    assert {user for user in users if not _within(user, "peer.cli")} == set()


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_only_by_its_home(graph: grimp.ImportGraph, library: str) -> None:
    users = graph.find_modules_that_directly_import(library)
    assert users
    assert {user for user in users if not any(_within(user, home) for home in HOMES[library])} == set()


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_needs_the_standard_library_only(graph: grimp.ImportGraph, module: str) -> None:
    own = {module} | graph.find_descendants(module)
    reached = own.union(*(graph.find_upstream_modules(name) for name in own))
    roots = {name.partition(".")[0] for name in reached} - {"peer", "server"}
    assert roots <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", NO_CLOCK)
def test_a_pure_module_has_no_clock_and_no_loop(graph: grimp.ImportGraph, module: str) -> None:
    impure = {"asyncio", "time", "socket", "threading", "os", "logging", "random"}
    if module in JITTERED:
        impure -= {"random"}
    for name in {module} | graph.find_descendants(module):
        assert not graph.find_modules_directly_imported_by(name) & impure


def _loaded(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("statement", ["import server.relay", "import peer", "import peer.signaling.message_json"])
def test_the_relay_loads_no_media_engine(statement: str) -> None:
    assert not _loaded(statement) & {"aiortc", "aioice", "av", "cv2", "numpy", "redis"}


def test_the_window_process_loads_no_media_engine() -> None:
    """``imshow`` hangs where PyAV was imported first (docs/engine.md)."""
    assert not _loaded("import peer.media.windows.child") & {"aiortc", "aioice", "av", "websockets"}
