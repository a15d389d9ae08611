"""The core is arithmetic: it does no I/O, reads no clock and logs nothing (law 1)."""
