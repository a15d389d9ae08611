"""Changes that people make: policies, labels and modes, each with its plan, and how they reach the hosts."""
