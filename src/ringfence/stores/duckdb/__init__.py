"""The embedded flow store: one DuckDB file, one owning process, no server."""

from ringfence.stores.duckdb.store import DuckFlowStore

__all__ = ["DuckFlowStore"]
