"""Directories of workloads, one folder each."""
