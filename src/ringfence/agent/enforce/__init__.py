"""From what is wanted to what is in the kernel: applied, read back, on trial, put right, told."""
