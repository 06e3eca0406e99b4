"""The legacy programs, which we stay compatible with, run for real: the Go server and the React page.

``main.go`` and ``page.tsx`` are verbatim copies out of the document they were published in; nothing here edits them.

- The server listens on ``:8080``, hard-coded. ``go_server`` runs it in a network namespace of its own and forwards a
  free port into it, so that several can run at once and port 8080 stays free. Where namespaces are forbidden (many
  containers; sysctl ``user.max_user_namespaces``, ``kernel.unprivileged_userns_clone`` or
  ``kernel.apparmor_restrict_unprivileged_userns``), it runs a copy of the compiled program with the port replaced.
- The page dials ``ws://localhost:8080/ws``, hard-coded. A test makes the browser dial another address
  (``tests.browser.rig`` does, by wrapping ``WebSocket``).

Both are built once, see ``tests.builds``. Needs golang-go, golang-github-gorilla-websocket-dev, util-linux
(``unshare``), nodejs and npm.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tests.builds import built, cache, run

_HERE = Path(__file__).parent
_INDEX = '<!doctype html><meta charset="utf-8"><div id="root"></div><script src="page.js"></script>'


@contextlib.contextmanager
def go_server() -> Iterator[str]:
    """The old server, running. Yields its URL, ``ws://127.0.0.1:PORT/ws``, which accepts at once."""
    unshare = namespaces()
    with _in_namespace(unshare) if unshare else _with_other_port() as url:
        yield url


@contextlib.contextmanager
def _in_namespace(unshare: list[str]) -> Iterator[str]:
    binary = old_server()
    with socket.create_server(("127.0.0.1", 0)) as listener, _lifeline() as (ours, theirs):
        # --kill-child: ending unshare ends all of the namespace's processes, the Go server included.
        command = [*unshare, "--fork", "--kill-child", "--"]
        command += [sys.executable, "-I", str(_HERE / "namespace.py"), str(listener.fileno()), str(binary)]
        fds = [listener.fileno(), theirs.fileno()]
        process = subprocess.Popen(command, pass_fds=fds, stderr=subprocess.DEVNULL)
        theirs.close()
        try:
            yield f"ws://127.0.0.1:{listener.getsockname()[1]}/ws"
        finally:
            process.kill()
            process.wait()
            ours.read()  # until the last of them is gone


@functools.cache
def namespaces() -> list[str] | None:
    """The ``unshare`` command that makes network and PID namespaces here, or ``None`` where none can be made."""
    for command in (["unshare", "--map-root-user", "--net", "--pid"], ["unshare", "--net", "--pid"]):
        if subprocess.run([*command, "--fork", "true"], stderr=subprocess.DEVNULL).returncode == 0:
            return command
    return None


@contextlib.contextmanager
def _with_other_port() -> Iterator[str]:
    program = old_server().read_bytes()
    assert b":8080" in program
    with tempfile.TemporaryDirectory() as folder:
        port = _free_port_of_four_digits()
        copy = Path(folder) / "server"
        copy.write_bytes(program.replace(b":8080", b":%d" % port))
        copy.chmod(0o700)
        process = subprocess.Popen([copy], stderr=subprocess.DEVNULL)
        try:
            _wait_until_listening(port, process)
            yield f"ws://127.0.0.1:{port}/ws"
        finally:
            process.kill()
            process.wait()


def _free_port_of_four_digits() -> int:
    """As long as the one it replaces, and below the range from which the system takes free ports."""
    while True:
        port = random.randrange(1024, 10000)
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port


def _wait_until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            assert process.poll() is None, "the old server ended: its port was taken meanwhile"
            assert time.monotonic() < deadline, "the old server does not listen within 10 s"
            time.sleep(0.01)


@contextlib.contextmanager
def _lifeline() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """A pipe: reading our end returns when all holders of the other end have ended."""
    ours, theirs = os.pipe()
    with open(ours, "rb") as reader, open(theirs, "wb") as writer:
        yield reader, writer


@contextlib.contextmanager
def old_page_site() -> Iterator[str]:
    """The old page, served. Yields its URL on localhost, which browsers trust with cameras."""

    class Files(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    files = functools.partial(Files, directory=str(old_page()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="old-page-site")
        thread.start()
        try:
            yield f"http://localhost:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def old_server() -> Path:
    """The old server's binary, built from ``main.go`` unchanged."""

    def build(out: Path) -> None:
        env = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(cache() / "go")}
        run(["go", "build", "-o", str(out / "server"), str(_HERE / "main.go")], env, "golang-go, gorilla-websocket")

    return built("old-server", [_HERE / "main.go"], build) / "server"


def old_page() -> Path:
    """A folder with ``index.html`` and ``page.js``: ``page.tsx`` unchanged, bundled with React."""

    def build(out: Path) -> None:
        modules = _node_modules()
        command = [str(modules / ".bin" / "esbuild"), str(_HERE / "mount.tsx"), "--bundle", "--jsx=automatic"]
        command += ['--define:process.env.NODE_ENV="production"', "--log-level=error", f"--outfile={out / 'page.js'}"]
        run(command, os.environ | {"NODE_PATH": str(modules)}, "nodejs")
        (out / "index.html").write_text(_INDEX)

    return built("old-page", [_HERE / name for name in ("package.json", "mount.tsx", "page.tsx")], build)


def _node_modules() -> Path:
    def install(out: Path) -> None:
        shutil.copy(_HERE / "package.json", out)
        run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(out)], os.environ, "npm")

    return built("old-page-packages", [_HERE / "package.json"], install) / "node_modules"
