"""What this host sees of its own traffic, on its way up."""
