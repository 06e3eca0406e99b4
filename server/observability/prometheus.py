"""The tally as a page for Prometheus. The only user of prometheus_client; loaded when ``--metrics`` asks for it.

A registry of our own, not the library's global one: two relays in a process (tests, ``peer demo``) count apart.
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

from .counters import CLOSES, LIMITS, TYPES, Histogram, LedgerTally, Tally

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


@dataclass(frozen=True, slots=True)
class Now:
    """What a relay holds at the moment of the look."""

    peers: int
    rooms: int
    sockets: int
    ready: bool
    outbox: int
    """Octets in the fullest outbox."""
    buffers: int
    """Octets in all that waits."""


class Page(Collector):
    """``/metrics`` of one relay.

    Args:
        tally: its counts.
        now: asked for each page.
    """

    def __init__(self, tally: Tally, now: Callable[[], Now]) -> None:
        self._tally = tally
        self._now = now
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # resident memory, CPU, open files

    def render(self) -> bytes:
        """The text of ``/metrics``; begins a new high water of the outboxes."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        """Every metric, read once."""
        tally, now = self._tally, self._now()
        yield GaugeMetricFamily("relay_peers", "Peers in rooms, those in grace too", now.peers)
        yield GaugeMetricFamily("relay_rooms", "Rooms with somebody in them", now.rooms)
        yield GaugeMetricFamily("relay_sockets", "Open TCP connections", now.sockets)
        yield GaugeMetricFamily("relay_ready", "1 while /readyz says yes", int(now.ready))
        yield CounterMetricFamily("relay_connections", "TCP connections accepted", tally.accepted)
        yield _labelled(
            "relay_messages",
            "Frames that came, by type",
            "type",
            {kind: 0 for kind in (*TYPES, "other")} | tally.messages,
        )
        yield _labelled(
            "relay_refusals",
            "Frames that went nowhere, by error code",
            "code",
            dict.fromkeys(ERROR_CODES, 0) | tally.refused,
        )
        yield _labelled(
            "relay_closes",
            "Connections that the relay closed, by close code",
            "code",
            {str(k): tally.closed[k] for k in CLOSES | tally.closed.keys()},
        )
        yield _labelled(
            "relay_limited",
            "Times that a limit was exceeded, by its name",
            "limit",
            dict.fromkeys(LIMITS, 0) | tally.limited,
        )
        yield GaugeMetricFamily("relay_buffers_bytes", "Octets that wait for all clients and of them", now.buffers)
        yield CounterMetricFamily("relay_delivered", "Frames put into outboxes", tally.delivered)
        yield CounterMetricFamily("relay_turn_credentials", "TURN credentials made", tally.credentials)
        yield CounterMetricFamily("relay_received_bytes", "Octets read from sockets", tally.octets_in)
        yield CounterMetricFamily("relay_sent_bytes", "Octets put into outboxes", tally.octets_out)
        high, tally.outbox_high = max(tally.outbox_high, now.outbox), 0
        yield GaugeMetricFamily("relay_outbox_high_bytes", "Octets in the fullest outbox since the last look", high)
        if tally.ledger is not None:
            yield from _of_ledger(tally.ledger)
        yield _histogram("relay_join_seconds", "From the join to its answer", tally.join_seconds)
        yield _histogram(
            "relay_loop_lag_seconds", "How late the event loop is, asked twice a second", tally.lag_seconds
        )


def _of_ledger(tally: LedgerTally) -> Iterator[Metric]:
    yield GaugeMetricFamily("relay_cluster_nodes", "Relays in the cluster", tally.nodes)
    yield GaugeMetricFamily("relay_cluster_waiting", "Operations on their way to Redis", tally.waiting)
    yield CounterMetricFamily("relay_cluster_reconnects", "Times the link to Redis broke", tally.reconnects)
    yield CounterMetricFamily("relay_cluster_resumptions", "Times the cluster had forgotten this relay", tally.lives)
    yield _histogram("relay_cluster_round_trip_seconds", "From a batch to Redis' answer", tally.round_trip_seconds)


def _labelled(name: str, text: str, label: str, counts: dict[str, int]) -> Metric:
    """Labels that have counted nothing are to be in it, with 0: Prometheus sees no rise in what was not there."""
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    return HistogramMetricFamily(name, text, buckets=buckets, sum_value=histogram.total)
