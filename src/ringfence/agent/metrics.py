"""The agent's own numbers as Prometheus text, without a client library: an agent must stay small.

Source: https://prometheus.io/docs/instrumenting/exposition_formats/, text format 0.0.4: in help `\\` and line ends are
escaped, in a label's value also `"`.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, Literal, get_args

import msgspec

from ringfence.ports.target import State
from ringfence.wire.messages import Heartbeat

EVERY_S: Final = 15.0
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_log = logging.getLogger(__name__)
_HELP = str.maketrans({"\\": "\\\\", "\n": "\\n"})
_VALUE = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
Labels = Mapping[str, str]
_NONE: Labels = MappingProxyType({})


class Metric(msgspec.Struct, frozen=True):
    """A metric with its samples. The name of a counter ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge"]
    help: str
    samples: tuple[tuple[Labels, float], ...]


def exposition(metrics: Iterable[Metric]) -> str:
    """The metrics as text, in the order given."""
    return "".join(map(_written, metrics))


async def keep(path: Path, beat: Callable[[], Heartbeat]) -> None:
    """Until cancelled: a file for node_exporter's textfile collector, replaced whole, so that no half of it is read.

    A folder that refuses is said once in the log, and tried again.
    """
    problem = ""
    while True:
        try:
            await asyncio.to_thread(write, path, exposition(metrics_of(beat())))
            problem = ""
        except OSError as error:
            if str(error) != problem:
                problem = str(error)
                _log.warning("metrics are not written: %s", error)
        await asyncio.sleep(EVERY_S)


def write(path: Path, text: str) -> None:
    """For everybody to read. Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")  # the collector reads only what ends in .prom
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)


def metrics_of(beat: Heartbeat) -> tuple[Metric, ...]:
    """What a heartbeat says, as metrics: whoever reads a host's own numbers sees what the controller is told."""
    realised = beat.realised
    states: tuple[State, ...] = get_args(State)
    return (
        _one("ringfence_agent_heartbeat_timestamp_seconds", "gauge", "When this was so, by the host's clock.", beat.at),
        Metric(
            "ringfence_agent_info",
            "gauge",
            "Always 1; versions are labels.",
            (({"version": beat.version, "protocol": str(beat.protocol)}, 1.0),),
        ),
        Metric(
            "ringfence_agent_state",
            "gauge",
            "1 for the state of what the host enforces.",
            tuple(({"state": state}, float(state == realised.state)) for state in states),
        ),
        _one("ringfence_agent_policy_version", "gauge", "The version in force.", realised.policy_version),
        _one("ringfence_agent_assignment_revision", "gauge", "The assignment that is realised.", realised.assignment),
        _one("ringfence_agent_change_revision", "gauge", "The change that is realised.", realised.change),
        _one("ringfence_agent_on_trial", "gauge", "1 while a policy is on trial.", realised.on_trial),
        _one("ringfence_agent_disabled_until_seconds", "gauge", "Until when enforcement is off.", beat.disabled_until),
        _one("ringfence_agent_conntrack_entries", "gauge", "Entries of the connection table.", beat.conntrack_used),
        _one("ringfence_agent_conntrack_limit", "gauge", "Its size.", beat.conntrack_max),
        _one("ringfence_agent_resident_bytes", "gauge", "Resident memory.", beat.rss_bytes),
        _one("ringfence_agent_cpu_seconds_total", "counter", "Processor time used.", beat.cpu_s),
        _one("ringfence_agent_spool_bytes", "gauge", "Telemetry that waits on disk.", beat.spool_bytes),
        _one("ringfence_agent_telemetry_lost_total", "counter", "Telemetry records lost.", beat.lost),
    )


def _one(name: str, kind: Literal["counter", "gauge"], help: str, value: float) -> Metric:
    return Metric(name, kind, help, ((_NONE, float(value)),))


def _written(metric: Metric) -> str:
    head = f"# HELP {metric.name} {metric.help.translate(_HELP)}\n# TYPE {metric.name} {metric.kind}\n"
    return head + "".join(f"{metric.name}{_braced(labels)} {_number(value)}\n" for labels, value in metric.samples)


def _braced(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{value.translate(_VALUE)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
