"""Metrics say what they were told, in the format Prometheus reads, with a bounded number of series."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ringfence.agent import metrics as agent
from ringfence.agent.metrics import Metric, exposition, metrics_of
from ringfence.controller.alerts.occurrences import KINDS
from ringfence.controller.metrics import Metrics
from ringfence.ports.notifier import SEVERITIES, Notice
from ringfence.wire.messages import Heartbeat, Realised

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    families = list(text_string_to_metric_families(text))
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def of(metrics: Metrics) -> Samples:
    return read(metrics.exposition().decode())


def test_agents_are_counted_by_state() -> None:
    """What is no longer so goes back to zero; offline is a state of its own."""
    metrics = Metrics()
    metrics.agents({"realised": 7, "drifted": 2}, offline=1)
    metrics.agents({"realised": 9}, offline=0)
    samples = of(metrics)

    assert value(samples, "ringfence_agents", state="realised") == 9
    assert value(samples, "ringfence_agents", state="drifted") == 0
    assert value(samples, "ringfence_agents", state="offline") == 0


def test_a_change_s_way_is_a_histogram() -> None:
    """Latencies fall into cumulative buckets; a clock that stepped back counts as no time."""
    metrics = Metrics()
    metrics.acknowledged([0.02, 0.3, 400.0, -5.0])
    samples = of(metrics)
    name = "ringfence_change_acknowledged_seconds"

    assert value(samples, f"{name}_bucket", le="0.01") == 1
    assert value(samples, f"{name}_bucket", le="0.025") == 2
    assert value(samples, f"{name}_bucket", le="300.0") == 3
    assert value(samples, f"{name}_count") == 4
    assert value(samples, f"{name}_sum") == pytest.approx(400.32)


def test_alerts_are_counted_by_kind_and_severity() -> None:
    """Open ones as they are, occurrences as they come."""
    metrics = Metrics()
    metrics.alerts({("violation", "error"): 3})
    metrics.occurred("violation", 250)
    samples = of(metrics)

    assert value(samples, "ringfence_alerts_open", kind="violation", severity="error") == 3
    assert value(samples, "ringfence_alerts_open", kind="violation", severity="info") == 0
    assert value(samples, "ringfence_occurrences_total", kind="violation") == 250
    assert value(samples, "ringfence_occurrences_total", kind="tampering") == 0


def test_everything_else_is_counted_too() -> None:
    """Bus, flows, loss, sinks and requests."""
    metrics = Metrics()
    metrics.bus(is_up=True, connections=12)
    metrics.message(is_up=True, is_refused=True, count=2)
    metrics.flows(1000)
    metrics.lost(5, suppressed=6)
    metrics.sink("siem", waiting=3, lost=4)
    metrics.request("GET", "/v1/alerts/{id}", 404, 0.003)
    metrics.request("BREW", "unknown", 405, 0.003)
    metrics.heartbeats(9)
    metrics.told([Notice("s-1", datetime(2026, 3, 3, tzinfo=UTC), "summary", "summary", "warning", "5 more")])
    samples = of(metrics)

    assert value(samples, "ringfence_bus_up") == 1
    assert value(samples, "ringfence_bus_connections") == 12
    assert value(samples, "ringfence_bus_messages_total", direction="up", outcome="refused") == 2
    assert value(samples, "ringfence_flow_rows_total") == 1000
    assert value(samples, "ringfence_telemetry_lost_total") == 5
    assert value(samples, "ringfence_violations_suppressed_total") == 6
    assert value(samples, "ringfence_notices_waiting", sink="siem") == 3
    assert value(samples, "ringfence_notices_lost", sink="siem") == 4
    route = {"method": "GET", "route": "/v1/alerts/{id}", "status": "4xx"}
    assert value(samples, "ringfence_http_request_seconds_bucket", le="0.005", **route) == 1
    assert value(samples, "ringfence_http_request_seconds_count", method="other", route="unknown", status="4xx") == 1
    assert value(samples, "ringfence_heartbeats_total") == 9
    assert value(samples, "ringfence_notices_total", news="summary") == 1


def test_two_controllers_in_one_process_do_not_mix() -> None:
    """Each has a registry of its own."""
    one, two = Metrics(), Metrics()
    one.flows(5)

    assert value(of(two), "ringfence_flow_rows_total") == 0


def test_the_number_of_series_does_not_grow_with_what_happens() -> None:
    """Alert series are kinds times severities, from the start to the end."""
    metrics = Metrics()
    before = set(of(metrics))
    for kind in KINDS:
        for severity in SEVERITIES:
            metrics.alerts({(kind, severity): 10_000})
        metrics.occurred(kind, 10_000)

    assert set(of(metrics)) - before == set()


# ---- agents ---------------------------------------------------------------------------------------------------------


def heartbeat(**how: Any) -> Heartbeat:
    realised = Realised("drifted", assignment=4, change=9, policy_version=8, on_trial=True)
    full: dict[str, Any] = {
        "conntrack_used": 10,
        "conntrack_max": 100,
        "rss_bytes": 48_000_000,
        "cpu_s": 1.25,
        "lost": 3,
    }
    return Heartbeat(1_700_000_000.5, "i", "m", "0.1.0", 1, "s", realised, **full | how)


def test_an_agent_s_heartbeat_becomes_metrics() -> None:
    """Prometheus' own parser reads back the same numbers."""
    samples = read(exposition(metrics_of(heartbeat())))

    assert value(samples, "ringfence_agent_heartbeat_timestamp_seconds") == 1_700_000_000.5
    assert value(samples, "ringfence_agent_info", version="0.1.0", protocol="1") == 1
    assert value(samples, "ringfence_agent_state", state="drifted") == 1
    assert value(samples, "ringfence_agent_state", state="realised") == 0
    assert value(samples, "ringfence_agent_policy_version") == 8
    assert value(samples, "ringfence_agent_on_trial") == 1
    assert value(samples, "ringfence_agent_cpu_seconds_total") == 1.25
    assert value(samples, "ringfence_agent_telemetry_lost_total") == 3


TEXT = st.text(
    alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029")
)


@given(TEXT, TEXT, st.floats())
def test_whatever_is_in_it_is_read_back(help: str, label: str, number: float) -> None:
    """Quotes, backslashes and line ends in help and labels, and every float, survive the text."""
    metric = Metric("m", "gauge", "h" + help + "h", (({"l": label, "k": "x"}, number),))
    (family,) = text_string_to_metric_families(exposition([metric]))
    (sample,) = family.samples

    assert family.documentation == "h" + help + "h"
    assert sample.labels == {"l": label, "k": "x"}
    assert sample.value == number or (math.isnan(sample.value) and math.isnan(number))


def test_the_escapes_are_exact() -> None:
    """Backslash and line end in help; the quote too in a label."""
    metric = Metric("m", "counter", 'a\\b\nc"', (({"l": 'a\\b\nc"'}, 1.0),))

    assert exposition([metric]) == '# HELP m a\\\\b\\nc"\n# TYPE m counter\nm{l="a\\\\b\\nc\\""} 1\n'


def test_an_agent_needs_no_client_library_for_it() -> None:
    """Importing the agent's metrics loads nothing of Prometheus."""
    program = f"import sys; import {agent.__name__}; sys.exit('prometheus_client' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0
