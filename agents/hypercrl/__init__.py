"""HyperCRL: continual model-based reinforcement learning with hypernetworks, and its baselines."""
