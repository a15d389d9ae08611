"""How a host joins: a key that never leaves it, a certificate, and a fresh one in time."""
