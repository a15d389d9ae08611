"""Ways to tell people: one module a kind of sink, and the dispatcher that gets notices to all of them."""
