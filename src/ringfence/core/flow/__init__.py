"""Observed traffic as values: one record, and conversations aggregated between labelled endpoints."""
