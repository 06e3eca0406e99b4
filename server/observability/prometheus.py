"""The counters in the Prometheus text format. The only user of prometheus_client; loaded only with ``--metrics``.

Each page has its own registry instead of the library's global one, so two relays in a process (tests, ``peer demo``)
are counted separately.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from peer.signaling.messages import ERROR_CODES

from .counters import CLOSE_CODES, LIMIT_NAMES, MESSAGE_TYPES, ClusterCounters, Counters, Histogram

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Gauges:
    """State of a relay at the time of a scrape."""

    peers: int
    rooms: int
    sockets: int
    ready: bool
    send_queue: int
    """Size of the largest send queue, in bytes."""
    buffers: int
    """Size of all buffered data, in bytes."""


class MetricsPage(Collector):
    """``/metrics`` of one relay.

    Args:
        counters: counters of the relay.
        gauges: called for each page.
    """

    def __init__(self, counters: Counters, gauges: Callable[[], Gauges]) -> None:
        self._counters = counters
        self._gauges = gauges
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # resident memory, CPU, open files

    def render(self) -> bytes:
        """Return the text of ``/metrics``, and start a new maximum of the send queues."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield every metric once."""
        counters, gauges = self._counters, self._gauges()
        yield GaugeMetricFamily("relay_peers", "Peers in rooms, including those in grace", gauges.peers)
        yield GaugeMetricFamily("relay_rooms", "Rooms with at least one peer", gauges.rooms)
        yield GaugeMetricFamily("relay_sockets", "Open TCP connections", gauges.sockets)
        yield GaugeMetricFamily("relay_ready", "1 while /readyz returns 200", int(gauges.ready))
        yield CounterMetricFamily("relay_connections", "TCP connections accepted", counters.accepted)
        yield _labelled(
            "relay_messages",
            "Messages received, by type",
            "type",
            {kind: 0 for kind in (*MESSAGE_TYPES, "other")} | counters.messages,
        )
        yield _labelled(
            "relay_refusals",
            "Messages rejected, by error code",
            "code",
            dict.fromkeys(ERROR_CODES, 0) | counters.rejected,
        )
        yield _labelled(
            "relay_closes",
            "Connections closed by the relay, by close code",
            "code",
            {str(k): counters.closed[k] for k in CLOSE_CODES | counters.closed.keys()},
        )
        yield _labelled(
            "relay_limited",
            "Times a limit was exceeded, by its name",
            "limit",
            dict.fromkeys(LIMIT_NAMES, 0) | counters.limited,
        )
        yield GaugeMetricFamily("relay_buffers_bytes", "Bytes buffered for all clients", gauges.buffers)
        yield CounterMetricFamily("relay_delivered", "Messages put into send queues", counters.delivered)
        yield CounterMetricFamily("relay_turn_credentials", "TURN credentials created", counters.credentials)
        yield CounterMetricFamily("relay_received_bytes", "Bytes read from peers", counters.bytes_in)
        yield CounterMetricFamily("relay_sent_bytes", "Bytes put into send queues", counters.bytes_out)
        high, counters.send_queue_high = max(counters.send_queue_high, gauges.send_queue), 0
        yield GaugeMetricFamily("relay_outbox_high_bytes", "Maximum size of a send queue since the last scrape", high)
        if counters.cluster is not None:
            yield from _cluster_metrics(counters.cluster)
        yield _histogram("relay_join_seconds", "From the join to its answer", counters.join_seconds)
        yield _histogram("relay_loop_lag_seconds", "Event loop delay, sampled twice per second", counters.lag_seconds)


def _cluster_metrics(counters: ClusterCounters) -> Iterator[Metric]:
    yield GaugeMetricFamily("relay_cluster_nodes", "Relays in the cluster", counters.nodes)
    yield GaugeMetricFamily("relay_cluster_waiting", "Operations that Redis has not answered yet", counters.waiting)
    yield CounterMetricFamily(
        "relay_cluster_reconnects", "Times the connection to Redis broke or could not be made", counters.reconnects
    )
    yield CounterMetricFamily(
        "relay_cluster_resumptions", "Times this relay registered its peers again", counters.resumptions
    )
    yield _histogram(
        "relay_cluster_round_trip_seconds", "From sending a batch to the answer of Redis", counters.round_trip_seconds
    )


def _labelled(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    """Return a counter with one series per label value, including those that are 0.

    Prometheus would see no increase in a series that starts at 1.
    """
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
