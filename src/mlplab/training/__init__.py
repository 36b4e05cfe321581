"""Training: losses, metrics and the loops that use them."""
