"""Benchmarks: each runs the peer or the physical limit beside Ringfence in the same run and prints a ratio."""
