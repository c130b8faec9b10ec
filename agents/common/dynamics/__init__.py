"""Learned dynamics: ensembles of networks as one batched network, and as an environment."""
