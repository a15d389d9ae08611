"""What is kept and brought back: the audit log as people read it, backups, a state put back."""
