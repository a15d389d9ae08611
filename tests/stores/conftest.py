"""Every test of a store that asks for `new_state` or `place` runs on each database."""

from databases import new_state, place, postgres

__all__ = ["new_state", "place", "postgres"]
