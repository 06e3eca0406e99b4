"""Monitoring of a running relay: /metrics, /healthz, /readyz, and the log."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse

import pytest
from prometheus_client.parser import text_string_to_metric_families

from peer.cli.logs import _JsonFormatter
from server.errors import CannotListen
from server.relay import Relay, RelayConfig
from tests.redis_server import RedisServer

from ..wire import DEADLINE, ROOT, Raw, joined, opened, relay, text, until

Samples = dict[tuple[str, str], float]


@pytest.fixture
async def server() -> AsyncIterator[Relay]:
    async with relay(metrics=("127.0.0.1", 0), max_send_queue=400_000, max_frame=200_000, byte_rate=0) as running:
        yield running


async def ask(server: Relay, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    """Status, content type and body."""
    assert server.metrics is not None
    host = server.metrics.removeprefix("http://").removesuffix("/metrics")

    def fetch() -> tuple[int, str, bytes]:
        connection = HTTPConnection(host, timeout=DEADLINE)
        connection.request(method, path)
        answer: HTTPResponse = connection.getresponse()
        try:
            return answer.status, answer.headers["Content-Type"], answer.read()
        finally:
            connection.close()

    return await asyncio.to_thread(fetch)


async def look(server: Relay) -> Samples:
    """All samples of /metrics, by name and value of the only label."""
    status, kind, body = await ask(server, "/metrics")
    assert status == 200 and kind.startswith("text/plain")
    return {
        (sample.name, "".join(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def test_peers_rooms_sockets_and_messages_are_counted(server: Relay) -> None:
    async with joined(server, "A") as a, joined(server, "B", room="attic"), opened(server):
        await a.send_message("offer", to="nobody", sdp="x")
        await a.send_message("wave")
        await a.send("{")
        for _ in range(2):
            await a.get()
        seen = await look(server)
    assert seen["relay_peers", ""] == 2
    assert seen["relay_rooms", ""] == 2
    assert seen["relay_sockets", ""] == 3
    assert seen["relay_connections_total", ""] == 3
    assert seen["relay_messages_total", "join"] == 2
    assert seen["relay_messages_total", "offer"] == 1
    assert seen["relay_messages_total", "other"] == 1
    assert seen["relay_refusals_total", "peer-not-found"] == 1
    assert seen["relay_refusals_total", "bad-message"] == 1
    assert seen["relay_refusals_total", "id-taken"] == 0
    assert seen["relay_join_seconds_count", ""] == 2
    assert seen["relay_delivered_total", ""] >= 4
    assert seen["relay_received_bytes_total", ""] > 300
    assert seen["process_resident_memory_bytes", ""] > 1e6
    assert seen["relay_ready", ""] == 1


async def test_documented_metrics_are_those_of_the_code(ledger_redis: RedisServer) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    written = set(re.findall(r"^\| `(relay_\w+)", page, re.MULTILINE))
    suffixes = ("_bucket", "_count", "_sum", "_created")
    async with relay(metrics=("127.0.0.1", 0), cluster=ledger_redis.url) as server:
        seen = await look(server)
    assert {name for name, _ in seen if name.startswith("relay_") and not name.endswith(suffixes)} | {
        "relay_join_seconds",
        "relay_loop_lag_seconds",
        "relay_cluster_round_trip_seconds",
    } == written


async def test_counters_start_at_zero_with_all_labels(server: Relay) -> None:
    seen = await look(server)
    page = (ROOT / "docs" / "limits.md").read_text()
    named = re.findall(r"`([a-z-]+)`", page.partition("use these names")[2].partition(".")[0])
    assert "buffers" in named
    assert {label: n for (name, label), n in seen.items() if name == "relay_limited_total"} == dict.fromkeys(named, 0)
    page = (ROOT / "docs" / "protocol.md").read_text()
    codes = re.findall(r"^\| (\d{4}) \|", page, re.MULTILINE)
    assert "4408" in codes
    assert {label: n for (name, label), n in seen.items() if name == "relay_closes_total"} == dict.fromkeys(codes, 0)


async def test_idle_monitoring_connection_does_not_delay_a_stop() -> None:
    before = asyncio.all_tasks()
    async with relay(metrics=("127.0.0.1", 0)) as server:
        assert server.metrics is not None
        port = int(server.metrics.rpartition(":")[2].partition("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.1\r\n")
        await until(lambda: len(asyncio.all_tasks() - before) == 1)  # the relay waits for the rest
        await server.stop()
        assert asyncio.all_tasks() == before
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_rejected_id_is_counted_with_its_close_code(server: Relay) -> None:
    async with joined(server, "A"), opened(server) as late:
        await late.send({"type": "join", "peerId": "A"})
        assert await late.closed() == 4409
        seen = await look(server)
    assert seen["relay_refusals_total", "id-taken"] == 1
    assert seen["relay_closes_total", "4409"] == 1


async def test_largest_send_queue_is_reported_once(server: Relay) -> None:
    async with joined(server, "A") as a:
        slow = await Raw.join(server.port, "slow", receive_buffer=4096)
        assert (await a.get())["type"] == "peer-joined"
        slow.stall()
        while not (high := (await look(server))["relay_outbox_high_bytes", ""]):
            await a.send_message("wave", filler="x" * 100_000)
        assert high >= 100_000
        while [client for client in server.sessions.clients if client.queued]:
            await a.send_message("wave", filler="x" * 100_000)  # until it is closed
        assert (await look(server))["relay_closes_total", "4408"] == 1
        await slow.end()
        await until(lambda: len(server.sessions.clients) == 1)
        await look(server)
        assert (await look(server))["relay_outbox_high_bytes", ""] == 0


async def test_client_cannot_create_time_series(server: Relay) -> None:
    async with joined(server, "A") as a, joined(server, "B"):
        before = len(await look(server))
        for n in range(50):
            await a.send_message(f"type-{n}", to="B")
            await a.send_message("offer", to=f"nobody-{n}")
        assert len(await look(server)) == before


async def test_event_loop_lag_is_measured(server: Relay) -> None:
    async with asyncio.timeout(DEADLINE):
        while not (await look(server))["relay_loop_lag_seconds_count", ""]:
            await asyncio.sleep(0.05)


async def test_health_and_readiness_return_their_status(server: Relay) -> None:
    assert await ask(server, "/healthz") == (200, "application/json", b'{"status": "ok"}\n')
    assert await ask(server, "/readyz") == (200, "application/json", b'{"status": "ok"}\n')
    silent = await Raw.join(server.port, "A")  # it does not answer the close, so stopping takes a while
    stopping = asyncio.ensure_future(server.stop())
    assert await silent.closed() == 1001
    assert await ask(server, "/readyz") == (503, "application/json", b'{"status": "stopping"}\n')
    assert (await ask(server, "/healthz"))[0] == 200
    await silent.end()
    await stopping


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/ws", 404), ("POST", "/metrics", 405)]
)
async def test_unknown_monitoring_path_gets_404(server: Relay, method: str, path: str, status: int) -> None:
    assert (await ask(server, path, method))[0] == status
    async with opened(server):
        pass


async def test_head_response_has_no_body(server: Relay) -> None:
    assert (await ask(server, "/readyz", "HEAD"))[::2] == (200, b"")


async def test_malformed_and_excess_monitoring_requests_are_dropped(server: Relay) -> None:
    assert server.metrics is not None
    port = int(server.metrics.split(":")[2].split("/")[0])
    crowd = [await Raw.connect(port) for _ in range(80)]
    rest = await asyncio.gather(*(one.rest() for one in crowd[70:]))
    assert set(rest) == {b""}, "over the limit of connections"
    crowd[0].writer.write(b"\x16\x03\x01\r\n\r\n")
    assert (await crowd[0].rest()).startswith(b"HTTP/1.1 400 ")
    crowd[1].writer.write(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 40_000)
    assert await crowd[1].rest() == b""
    for one in crowd:
        await one.end()
    async with asyncio.timeout(DEADLINE):
        while (await ask(server, "/healthz"))[0] != 200:
            pass


async def test_relay_without_metrics_port_has_no_monitoring() -> None:
    async with relay() as server:
        assert server.metrics is None and server._monitoring is None


async def test_metrics_port_in_use_raises_and_stops_the_relay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = Relay(RelayConfig(port=0, metrics=("127.0.0.1", port)))
        with pytest.raises(CannotListen, match=f"cannot listen on 127.0.0.1:{port} for --metrics: .*in use"):
            await running.start()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", running.port)


async def test_json_log_has_the_facts_of_each_event(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="server")
    async with relay() as server:
        async with joined(server, "A", room="attic", key="SECRET"), opened(server) as late:
            await late.ws.send(text({}).decode(errors="ignore"))
            assert await late.closed() == 4400
        await until(lambda: not server.sessions.clients)
    lines = [json.loads(_JsonFormatter().format(record)) for record in caplog.records if record.name == "server"]
    by_event = {line["event"]: line for line in lines if "event" in line}
    assert by_event["joined"].items() >= {"peer": "A", "room": "attic", "level": "info"}.items()
    assert by_event["joined"]["message"].startswith("+ A joined from ")
    assert by_event["left"].items() >= {"peer": "A", "clean": True}.items()
    assert {"listening", "stopping"} <= by_event.keys()
    assert "SECRET" not in caplog.text
