"""Enforcement technologies, one folder each: exact or refused, and only what is ours."""
