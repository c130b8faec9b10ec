"""Group-relative policy gradients: episodes are compared with others from the same start."""
