"""Quarantine, and evidence of what a host did."""
