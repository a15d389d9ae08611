"""Where observed traffic is kept, one folder a database."""
