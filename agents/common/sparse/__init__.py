"""Sparse regression: libraries of functions, fits, ensembles, and models that can be read."""
