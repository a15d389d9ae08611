"""What one enforcement point must realise: the engine's answer, resolved, for one workload."""
