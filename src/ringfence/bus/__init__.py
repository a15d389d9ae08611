"""Ways to carry messages between controller and agents."""
