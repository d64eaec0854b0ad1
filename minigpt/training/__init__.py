"""Learning: data, losses, the optimizer, and the loop that runs them."""
