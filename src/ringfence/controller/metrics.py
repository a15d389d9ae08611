"""The controller's own numbers, in a registry of their own, for Prometheus to scrape.

INVARIANT: every label has a closed set of values, so the number of series does not grow with the estate: agents are
counted by state, never named; requests by route template, never by path.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable, Mapping
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from ringfence import __version__
from ringfence.controller.alerts.occurrences import KINDS, Kind
from ringfence.ports.notifier import SEVERITIES, Notice
from ringfence.ports.target import State

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
STATES: tuple[State, ...] = get_args(State)
_CHANGE_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
_REQUEST_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Metrics:
    """One controller's metrics. Gauges are set to what is so; counters only grow."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        build = Gauge("ringfence_build_info", "Always 1; the version is a label.", ["version"], registry=registry)
        build.labels(__version__).set(1)
        self._agents = Gauge(
            "ringfence_agents", "Agents by what their host enforces; offline ones whatever they said last.", ["state"],
            registry=registry,
        )  # fmt: skip
        self._heartbeats = Counter("ringfence_heartbeats", "Heartbeats heard.", registry=registry)
        self._change = Histogram(
            "ringfence_change_acknowledged_seconds", "From a change until a host reported it realised.",
            buckets=_CHANGE_S, registry=registry,
        )  # fmt: skip
        self._alerts = Gauge(
            "ringfence_alerts_open", "Alerts that are not closed.", ["kind", "severity"], registry=registry
        )
        self._noted = Counter("ringfence_occurrences", "What alerts counted.", ["kind"], registry=registry)
        self._notices = Counter("ringfence_notices", "What people were told.", ["news"], registry=registry)
        self._sinks = Gauge(
            "ringfence_notices_waiting", "Notices not yet delivered to a sink.", ["sink"], registry=registry
        )
        self._undelivered = Gauge(
            "ringfence_notices_lost", "Notices given up since the outbox was made.", ["sink"], registry=registry
        )
        self._bus = Gauge("ringfence_bus_up", "1 while the bus is connected.", registry=registry)
        self._connections = Gauge("ringfence_bus_connections", "Clients of the bus.", registry=registry)
        self._messages = Counter(
            "ringfence_bus_messages", "Messages between controller and agents.", ["direction", "outcome"],
            registry=registry,
        )  # fmt: skip
        self._rows = Counter("ringfence_flow_rows", "Flow rows stored.", registry=registry)
        self._lost = Counter("ringfence_telemetry_lost", "Telemetry records agents lost.", registry=registry)
        self._suppressed = Counter(
            "ringfence_violations_suppressed", "Violations agents counted without describing them.", registry=registry
        )
        self._requests = Histogram(
            "ringfence_http_request_seconds", "Requests to the API.", ["method", "route", "status"],
            buckets=_REQUEST_S, registry=registry,
        )  # fmt: skip
        self._prepare()

    def _prepare(self) -> None:
        """Series exist from the start: a rate over one that appears with its first event misses that event."""
        for kind in KINDS:
            self._noted.labels(kind)
        self.agents({}, offline=0)
        self.alerts({})

    def agents(self, by_state: Mapping[State, int], *, offline: int) -> None:
        """How many agents that are heard say which state, and how many are not heard."""
        for state in STATES:
            self._agents.labels(state).set(by_state.get(state, 0))
        self._agents.labels("offline").set(offline)

    def heartbeats(self, count: int = 1) -> None:
        self._heartbeats.inc(count)

    def acknowledged(self, latencies_s: Iterable[float]) -> None:
        """A change was reported realised; a clock that stepped back makes no negative time."""
        for latency_s in latencies_s:
            self._change.observe(max(0.0, latency_s))

    def alerts(self, open_by_kind: Mapping[tuple[str, str], int]) -> None:
        """What `Alerts.open_by_kind` says."""
        for kind in KINDS:
            for severity in SEVERITIES:
                self._alerts.labels(kind, severity).set(open_by_kind.get((kind, severity), 0))

    def occurred(self, kind: Kind, count: int = 1) -> None:
        self._noted.labels(kind).inc(count)

    def told(self, notices: Iterable[Notice]) -> None:
        for news, count in Tally(notice.news for notice in notices).items():
            self._notices.labels(news).inc(count)

    def sink(self, name: str, *, waiting: int, lost: int) -> None:
        """A sink's backlog; sinks are few, and named by the configuration."""
        self._sinks.labels(name).set(waiting)
        self._undelivered.labels(name).set(lost)

    def bus(self, *, is_up: bool, connections: int) -> None:
        self._bus.set(is_up)
        self._connections.set(connections)

    def message(self, *, is_up: bool, is_refused: bool = False, count: int = 1) -> None:
        """Messages from (up) or to agents; refused are forged, malformed or not understood."""
        self._messages.labels("up" if is_up else "down", "refused" if is_refused else "taken").inc(count)

    def flows(self, rows: int) -> None:
        self._rows.inc(rows)

    def lost(self, records: int, *, suppressed: int = 0) -> None:
        """More that agents lost, and violations they did not describe."""
        self._lost.inc(records)
        self._suppressed.inc(suppressed)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request, by the template of its route; pass `unknown` where none matched."""
        told = method if method in _METHODS else "other"
        self._requests.labels(told, route, f"{status // 100}xx").observe(seconds)

    def exposition(self) -> bytes:
        """The text format 0.0.4, for `CONTENT_TYPE`."""
        return generate_latest(self._registry)
