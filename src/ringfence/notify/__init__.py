"""Ways to tell people: one module a kind of sink."""
