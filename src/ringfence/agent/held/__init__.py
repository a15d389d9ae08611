"""What this host was told, kept on its disk, and what it should enforce of it."""
