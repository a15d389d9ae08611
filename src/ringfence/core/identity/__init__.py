"""Workloads, who holds an address when, and the inventory as one immutable snapshot."""
