"""Inventory files: CSV, JSON and YAML lists of workloads, and label rules."""

from ringfence.inventory.files.load import Loaded, load_paths, load_workloads

__all__ = ["Loaded", "load_paths", "load_workloads"]
