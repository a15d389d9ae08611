"""The Protocols that the outside world must satisfy; adapters implement them, the core never does."""
