"""Addresses, services and the interval algebra they share. Knows nothing of labels or policy."""
