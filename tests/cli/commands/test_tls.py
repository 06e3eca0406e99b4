"""``peer serve --tls-cert``, and ``--cacert`` of its clients."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.cli.program import QUIET, Program
from tests.server.keys import certificate


def test_wss_end_to_end_and_certificate_reload_on_sighup(tmp_path: Path) -> None:
    used, first, fresh = tmp_path / "used.pem", tmp_path / "first.pem", tmp_path / "fresh.pem"
    certificate(used)
    first.write_bytes(used.read_bytes())
    certificate(fresh)
    with Program("serve", "--port", "0", "--host", "localhost", "--tls-cert", str(used), "--json") as serve:
        where = serve.expect("listening")
        assert where["url"].startswith("wss://localhost:") and where["page"].startswith("https://localhost:")
        node = ("run", "--server", where["url"], "--cacert", str(first), "--json", *QUIET)
        with Program(*node, "--id", "door") as door:
            door.expect("joined")
            used.write_bytes(fresh.read_bytes())
            serve.send(signal.SIGHUP)
            joined = False
            while not joined:  # until the signal has come
                with Program("list", "--server", where["url"], "--cacert", str(fresh), "--timeout", "1s") as fellow:
                    joined = fellow.wait() == 0
                    assert joined or "not trusted" in fellow.errors
            assert fellow.text == ["door"]
        used.write_text("nonsense")
        serve.send(signal.SIGHUP)
        with Program("list", "--server", where["url"], "--cacert", str(fresh)) as late:
            assert late.wait() == 0
        serve.send(signal.SIGTERM)
        assert serve.wait() == 0
        assert "reloaded the certificate" in serve.errors
        assert "the old certificate stays in use: --tls-cert: " in serve.errors


def test_unreadable_certificate_exits_with_2(tmp_path: Path) -> None:
    for args in (("serve", "--port", "0", "--tls-cert"), ("list", "--server", "wss://localhost:9/ws", "--cacert")):
        with Program(*args, str(tmp_path / "nowhere.pem")) as program:
            assert program.wait() == 2
            assert "nowhere.pem: No such file" in program.errors and "Traceback" not in program.errors
