"""The one registration table: a new adapter is one folder and one line here.

Adapters are named, not imported: nothing is loaded until somebody asks for it, and asking for a missing one is an
error.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

from ringfence.core.errors import InputError
from ringfence.ports.flow_source import FlowSource


class Entry(NamedTuple):
    """Where an adapter lives: `module:attribute`, and the optional extra that installs what it needs."""

    path: str
    extra: str = ""


TARGETS = MappingProxyType({"nftables": Entry("ringfence.targets.nftables.target:NftablesTarget")})
FLOW_SOURCES = MappingProxyType(
    {
        "vpc_flow_logs": Entry("ringfence.flows.vpc_flow_logs:VpcFlowLogs"),
        "zeek": Entry("ringfence.flows.zeek:Zeek"),
    }
)
FLOW_STORES = MappingProxyType({"duckdb": Entry("ringfence.stores.duckdb:DuckFlowStore")})


def load(table: MappingProxyType[str, Entry], name: str) -> Any:
    """The adapter of a name. Raises InputError `unknown-adapter` or `missing-extra`."""
    entry = table.get(name)
    if entry is None:
        raise InputError("unknown-adapter", f"there is no `{name}`", help=f"known: {', '.join(sorted(table))}")
    module, attribute = entry.path.split(":")
    try:
        return getattr(import_module(module), attribute)
    except ImportError as error:
        if not entry.extra:
            raise
        help_ = f"pip install 'ringfence[{entry.extra}]'"
        raise InputError("missing-extra", f"`{name}` needs a package that is not installed", help=help_) from error


def flow_sources(networks: Mapping[str, str] = MappingProxyType({})) -> tuple[FlowSource, ...]:
    """Every flow source there is; those that name VPCs are told which network the addresses of each live in."""
    factories = [load(FLOW_SOURCES, name) for name in FLOW_SOURCES]
    return tuple(
        factory(networks) if "networks" in inspect.signature(factory).parameters else factory() for factory in factories
    )
