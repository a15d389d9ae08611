"""Worlds of real hosts in network namespaces, with real services, real clients and telemetry from the kernel."""
