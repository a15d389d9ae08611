"""Labels and selectors: what a workload is called, and which workloads a selector picks."""
