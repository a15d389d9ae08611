"""Traffic and workloads on their way in: batches of agents, flow logs, inventory files."""
