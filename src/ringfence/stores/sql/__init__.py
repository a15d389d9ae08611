"""The state of the controller in SQLite or PostgreSQL, through one code."""

from ringfence.stores.sql.archive import Manifest, backup, restore
from ringfence.stores.sql.store import SqlState

__all__ = ["Manifest", "SqlState", "backup", "restore"]
