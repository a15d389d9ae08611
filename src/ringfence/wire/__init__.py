"""Versioned messages between controller and agents, and the subjects they travel on."""
