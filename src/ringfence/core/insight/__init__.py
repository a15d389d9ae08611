"""What observed traffic tells: maps, recommended policies, simulations, and how far to trust them."""
