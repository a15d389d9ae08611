"""What happened, grouped and counted; who is told; what became of it."""
