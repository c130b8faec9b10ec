"""MOREC: the reward of the dynamics, learned from recorded transitions, and the filter on it."""
